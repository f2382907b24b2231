import { describe, expect, it } from "vitest";
import { predictedSize, type SizeModel, uniformRanks } from "./size";

/** The file written out, for comparison: what the writer would make of the model's tensors. */
function written(model: SizeModel, ranks: number[], rank: number): number {
  const entries = model.tensors.flatMap((tensor) => {
    const { layer } = tensor;
    const form = layer === null || model.layers[layer]!.keep_at === ranks[layer] ? tensor.kept : tensor.changed;
    return form ? [{ form, name: "n".repeat(tensor.name_bytes - 2), own: layer === null ? 0 : ranks[layer]! }] : [];
  });
  entries.sort((a, b) => b.form[0] - a.form[0]);
  let offset = 0;
  const words = entries.map(({ form: [bits, shape, letters], name, own }) => {
    const sizes = shape.map((size) => (size < 0 ? -size * own : size));
    const end = offset + (sizes.reduce((a, b) => a * b, 1) * bits) / 8;
    const text = `"${name}":${JSON.stringify({ dtype: "D".repeat(letters), shape: sizes, data_offsets: [offset, end] })}`;
    offset = end;
    return text;
  });
  const json = `{${["m".repeat(model.metadata_bytes[rank - 1]!), ...words].join(",")}}`;
  return 8 + Math.ceil(json.length / 8) * 8 + offset;
}

const model: SizeModel = {
  layers: [
    { name: "a", old_rank: 16, keep_at: 16, limit: 320 },
    { name: "conv", old_rank: 16, keep_at: 16, limit: 9 },
    { name: "experts", old_rank: 8, keep_at: null, limit: null },
  ],
  tensors: [
    { name_bytes: 24, layer: 0, kept: [16, [16, 320], 3], changed: [16, [-1, 320], 3] },
    { name_bytes: 22, layer: 0, kept: [16, [1280, 16], 3], changed: [16, [1280, -1], 3] },
    { name_bytes: 17, layer: 0, kept: [16, [], 3], changed: [32, [], 3] },
    { name_bytes: 30, layer: 1, kept: null, changed: [16, [-1, 9, 3, 3], 4] },
    { name_bytes: 31, layer: 1, kept: null, changed: [16, [64, -1, 1, 1], 4] },
    { name_bytes: 12, layer: 1, kept: [16, [16, 9, 3, 3], 4], changed: null },
    { name_bytes: 40, layer: 2, kept: null, changed: [32, [-4, 64], 3] },
    { name_bytes: 9, layer: null, kept: [32, [77], 3], changed: null },
  ],
  metadata_bytes: Array.from({ length: 40 }, (_, at) => 900 + String(at + 1).length * 5),
  size_before: 1,
};

describe("the size at a rank", () => {
  it.each([1, 2, 7, 9, 10, 15, 16, 17, 40])("at rank %d is that of the file written out", (rank) => {
    const ranks = uniformRanks(model, rank);
    expect(predictedSize(model, ranks, rank)).toEqual({ bytes: written(model, ranks, rank), exact: true });
  });

  it("clamps layers that cannot have the rank, and not those that share one", () => {
    expect(uniformRanks(model, 12)).toEqual([12, 9, 12]);
  });

  it("is not called exact where the header's words are not known", () => {
    expect(predictedSize(model, [3, 4, 5], null).exact).toBe(false);
    expect(predictedSize(model, uniformRanks(model, 41), 41).exact).toBe(false);
  });
});
