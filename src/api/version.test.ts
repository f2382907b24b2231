import { expect, it } from "vitest";
import { version } from "../../package.json";
import { BUILT_FOR, serverVersion } from "./version";

it("another version of the server is told once, and that it is the page's own again", () => {
  expect(BUILT_FOR).toBe(version);
  let told = 0;
  const stop = serverVersion.subscribe(() => {
    told += 1;
  });
  serverVersion.heard(BUILT_FOR);
  serverVersion.heard(null);
  expect([serverVersion.other(), told]).toEqual([null, 0]);
  serverVersion.heard("99.0.0");
  serverVersion.heard("99.0.0");
  serverVersion.heard(null);
  expect([serverVersion.other(), told]).toEqual(["99.0.0", 1]);
  serverVersion.heard(BUILT_FOR);
  expect([serverVersion.other(), told]).toEqual([null, 2]);
  stop();
});
