// @vitest-environment jsdom
import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it } from "vitest";
import { show } from "../../testing/render";
import { Hint } from "./Hint";

it("a hint shows to the pointer and to the keyboard, describes its control, and Escape hides it", async () => {
  show(
    <Hint label="What it does">
      <button type="button">Do it</button>
    </Hint>,
  );
  const user = userEvent.setup();
  const button = screen.getByRole("button");
  expect(screen.queryByRole("tooltip")).toBeNull();
  await user.hover(button);
  expect(await screen.findByRole("tooltip")).toHaveTextContent("What it does");
  expect(button).toHaveAccessibleDescription("What it does");
  await user.keyboard("{Escape}");
  await waitFor(() => expect(screen.queryByRole("tooltip")).toBeNull());
  await user.unhover(button);
  await user.tab();
  expect(button).toHaveFocus();
  await screen.findByRole("tooltip");
  await user.tab();
  await waitFor(() => expect(screen.queryByRole("tooltip")).toBeNull());
});
