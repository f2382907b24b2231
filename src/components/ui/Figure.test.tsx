// @vitest-environment jsdom
import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it } from "vitest";
import { show } from "../../testing/render";
import { Figure } from "./Figure";

const HOSTILE = "<img src=x onerror=alert(1)>\u202e";

it("has its numbers as a table, and text of files stays text", async () => {
  show(
    <Figure title="Tags" subject="a" table={() => ({ columns: ["tag", "count"], rows: [[HOSTILE, 3]] })}>
      drawing
    </Figure>,
  );
  const user = userEvent.setup();
  expect(screen.getByText("drawing")).toBeInTheDocument();
  await user.click(screen.getByRole("button", { name: "Tags as a table" }));
  const table = screen.getByRole("table");
  expect(within(table).getByText("<img src=x onerror=alert(1)>\\u202e")).toBeInTheDocument();
  expect(document.querySelector("img")).toBeNull();
});

it("offers every export", async () => {
  show(
    <Figure title="Decay" subject="a" table={() => ({ columns: [], rows: [] })}>
      drawing
    </Figure>,
  );
  await userEvent.setup().click(screen.getByRole("button", { name: "Export Decay" }));
  for (const name of ["PNG picture", "SVG drawing", "CSV table", "JSON", "Copy as table"]) {
    expect(await screen.findByRole("menuitem", { name })).toBeInTheDocument();
  }
});
