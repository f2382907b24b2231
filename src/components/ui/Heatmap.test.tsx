// @vitest-environment jsdom
import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { show } from "../../testing/render";
import { Heatmap } from "./Heatmap";

it("is walked with arrow keys, reads values out and picks with Enter", async () => {
  const onPick = vi.fn();
  show(
    <Heatmap
      label="Values"
      raster={{
        rows: 3,
        columns: 4,
        at: (row, column) => (row === 2 && column === 3 ? Number.NaN : 10 * row + column),
      }}
      map="viridis"
      domain={[0, 30]}
      rowName={(row) => `layer ${row}`}
      columnName={(column) => `σ${column + 1}`}
      format={(value) => `value ${value}`}
      x="index"
      onPick={onPick}
    />,
  );
  const plane = screen.getByRole("application", { name: /Values/ });
  const user = userEvent.setup();
  await user.tab();
  expect(plane).toHaveFocus();
  await user.keyboard("{ArrowDown}{ArrowRight}{ArrowRight}");
  expect(screen.getByText("layer 1, σ3: value 12")).toBeInTheDocument();
  await user.keyboard("{Enter}");
  expect(onPick).toHaveBeenCalledWith(1, 2);
  await user.keyboard("{ArrowDown}{End}{ArrowRight}");
  expect(screen.getByText("layer 2, σ4: no value")).toBeInTheDocument();
  await user.keyboard("{Escape}");
  expect(screen.getByText(/Arrow keys or the pointer/)).toBeInTheDocument();
});
