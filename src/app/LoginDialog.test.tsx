// @vitest-environment jsdom
import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { api, take } from "../api/client";
import { show } from "../testing/render";
import { LoginDialog } from "./LoginDialog";

it("a request that was refused is made again after logging in, and a form keeps what was typed", async () => {
  let open = false;
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (request: Request) => {
    const path = new URL(request.url).pathname;
    asked.push(`${request.method} ${path}`);
    const reply = (status: number, body: unknown) =>
      new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
    if (path.endsWith("/health")) return reply(200, { status: "ok", login: { token: true, password: false } });
    if (path.endsWith("/session")) {
      open = (await request.json()).token === "right";
      return open
        ? reply(200, { via: "cookie" })
        : reply(401, { error: { code: "unauthorised", message: "this is not the token" } });
    }
    return open ? reply(200, [{ id: "r" }]) : reply(401, { error: { code: "unauthorised", message: "log in" } });
  });
  show(
    <>
      <input aria-label="a form" />
      <LoginDialog />
    </>,
  );
  const user = userEvent.setup();
  await user.type(screen.getByLabelText("a form"), "typed before");
  const pending = take(api.GET("/api/v1/roots"));
  const secret = await screen.findByLabelText(/Token/);
  await user.type(secret, "wrong");
  await user.click(screen.getByRole("button", { name: "Log in" }));
  expect((await screen.findAllByText(/this is not the token/)).length).toBeGreaterThan(0);
  await user.clear(secret);
  await user.type(secret, "right");
  await user.click(screen.getByRole("button", { name: "Log in" }));
  expect(await pending).toEqual([{ id: "r" }]);
  await waitFor(() => expect(screen.queryByLabelText(/Token/)).toBeNull());
  expect(screen.getByLabelText("a form")).toHaveValue("typed before");
  expect(asked.filter((one) => one.endsWith("/roots"))).toHaveLength(2);
});
