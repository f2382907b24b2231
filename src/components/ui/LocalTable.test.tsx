import { expect, it } from "vitest";
import { orderOf } from "./LocalTable";

it("numbers are ordered as numbers, also after a missing one; names by the numbers in them", () => {
  // By digits 0.09 would come after 0.1, and 3.2e-5 after both.
  expect(orderOf([{ error: null }, { error: 0.09 }, { error: 3.2e-5 }], (row) => row.error)).toBe("basic");
  expect(orderOf([{ name: "layer 10" }, { name: "layer 9" }], (row) => row.name)).toBe("alphanumeric");
  expect(orderOf([], () => 1)).toBe("alphanumeric");
});
