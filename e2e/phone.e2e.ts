import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectAccessible, idOf, openBrowser, openPage, type Session } from "./page";
import { type Running, start, whyNot } from "./server";

const reason = whyNot();
if (reason) console.log(`browser tests are skipped: ${reason}`);

describe.skipIf(reason)("the web UI on a phone", () => {
  let server: Running;
  let browser: Browser;
  let session: Session;
  let ids: Record<string, string>;

  beforeAll(async () => {
    server = await start();
    browser = await openBrowser();
    session = await openPage(browser, server);
    await session.page.setViewportSize({ width: 390, height: 844 });
    await session.page.getByText("sdxl-style-loha").first().waitFor({ timeout: 60_000 });
    await session.page.waitForFunction(() => !document.body.textContent?.includes("so far"), null, { timeout: 60_000 });
    ids = {
      a: await idOf(session.page, "sdxl-character-kohya"),
      b: await idOf(session.page, "sdxl-style-loha"),
      c: await idOf(session.page, "sdxl-portrait-dora"),
      base: await idOf(session.page, "sdxl-base"),
      many: await idOf(session.page, "many-layers"),
    };
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });

  const screens: [string, (ids: Record<string, string>) => string, string][] = [
    ["library", () => "/library", "Library"],
    ["inspect", ({ a }) => `/inspect?id=${a}`, "Training"],
    ["inspect, nothing chosen", () => "/inspect", "What is inside?"],
    ["tags", ({ a }) => `/inspect?id=${a}&tab=tags`, "1girl"],
    ["modules", ({ many }) => `/inspect?id=${many}&tab=modules`, "986 of 986"],
    ["metadata", ({ a }) => `/inspect?id=${a}&tab=metadata`, "ss_output_name"],
    ["spectrum", ({ many }) => `/spectrum?id=${many}`, "Explained variance"],
    ["pca", ({ a }) => `/spectrum?id=${a}&tab=pca`, "Map of layers"],
    ["resize", ({ a }) => `/resize?id=${a}&value=3`, "layers change"],
    ["merge", ({ a, b }) => `/merge?ids=${a}&ids=${b}`, "Agreement by block"],
    ["convert", ({ a }) => `/convert?id=${a}&to=peft`, "Leave out what cannot be written"],
    ["bake", ({ c, base }) => `/bake?ids=${c}&base=${base}`, "have their weight there"],
    ["extract", ({ base }) => `/extract?tuned=${base}&base=${base}`, "weights that both checkpoints hold"],
    ["beside the base", ({ c }) => `/spectrum?id=${c}&tab=base`, "Every weight of it is read"],
    ["compare", ({ a, b }) => `/compare?ids=${a}&ids=${b}`, "Subspace overlap"],
    ["jobs", () => "/jobs", "Analyses too"],
  ];
  it.each(screens)("%s is as wide as the screen, and its drawings have room", async (_, path, sign) => {
    const { page } = session;
    await page.goto(server.url + path(ids));
    await page.getByText(sign).first().waitFor({ timeout: 50_000 });
    await page.waitForTimeout(250);
    const wider = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    expect(wider).toBe(0);
    const cut = await page.evaluate(() =>
      [...document.querySelectorAll(".mantine-Button-label")]
        .filter((one) => one.scrollWidth > one.clientWidth + 1)
        .map((one) => one.textContent),
    );
    expect(cut).toEqual([]);
    for (const canvas of await page.locator(".heatmap canvas").all())
      expect((await canvas.boundingBox())?.width).toBeGreaterThan(80);
  });

  it("the filters of the library are closed, and open", async () => {
    const { page } = session;
    await page.goto(`${server.url}/library`);
    await page.getByText("sdxl-style-loha").first().waitFor();
    await expect.poll(() => page.getByText("Base model", { exact: true }).first().isVisible()).toBe(false);
    await page.getByRole("button", { name: "Filters" }).click();
    await page
      .getByLabel(/^Base model: /)
      .first()
      .waitFor();
    await expectAccessible(page);
    await page.getByLabel("Algorithm: dora").click();
    await page.getByText(/^1 adapter/).waitFor();
    await page.getByRole("button", { name: "Filters" }).click();
    expect(
      await page
        .getByLabel(/^Base model: /)
        .first()
        .isVisible(),
    ).toBe(false);
  });
});
