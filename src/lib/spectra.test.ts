import { describe, expect, it } from "vitest";
import { decayBand, decodeSpectra, energiesAt, qualityCurve, rankByRule, type Spectra, valuesOf } from "./spectra";

function packed(layers: { name: string; values: number[] }[]): ArrayBuffer {
  let offset = 0;
  const header = {
    adapter: "x",
    frobenius_norm: 1,
    vector_norm: 0,
    components: [],
    blocks: [],
    skipped: [],
    layers: layers.map(({ name, values }) => {
      const one = { name, component: "unet", block: null, count: values.length, offset, largest: values[0] ?? 0 };
      offset += values.length;
      return one;
    }),
    values: 0,
  };
  header.values = offset;
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const buffer = new ArrayBuffer(8 + text.length + 4 * offset);
  new DataView(buffer).setBigUint64(0, BigInt(text.length), true);
  new Uint8Array(buffer, 8).set(new TextEncoder().encode(text));
  new Float32Array(buffer, 8 + text.length, offset).set(layers.flatMap(({ values }) => values));
  return buffer;
}

const spectra = (...values: number[][]): Spectra =>
  decodeSpectra(packed(values.map((one, at) => ({ name: `layer ${at}`, values: one }))));

describe("the binary form", () => {
  it("gives every layer its own values", () => {
    const found = spectra([4, 3], [2, 1, 0.5]);
    expect([...valuesOf(found, 0)]).toEqual([4, 3]);
    expect([...valuesOf(found, 1)]).toEqual([2, 1, 0.5]);
    expect(found.width).toBe(3);
  });

  it("is refused where it is cut short", () => {
    const buffer = packed([{ name: "a", values: [1, 2] }]);
    expect(() => decodeSpectra(buffer.slice(0, buffer.byteLength - 4))).toThrow(/as long/);
    expect(() => decodeSpectra(buffer.slice(0, 20))).toThrow(/within/);
  });
});

describe("ranks by rule, the smallest that satisfies the definition", () => {
  const values = new Float32Array([4, 3, 2, 1]); // squares 16 9 4 1, of 30; sum 10
  it.each([
    ["energy", 0.5, 1],
    ["energy", 0.84, 3],
    ["energy", 1, 4],
    ["norm", 0.9, 2], // 81 % of the energy
    ["sum", 0.65, 2],
    ["sum", 0.7, 2],
    ["sum", 0.71, 3],
    ["ratio", 2.1, 3],
    ["ratio", 2, 3],
    ["ratio", 1, 1],
    ["layer_error", 0.2, 3],
    ["layer_error", 0.01, 4],
    ["rank", 7, 7],
  ] as const)("%s %d gives rank %d", (rule, value, rank) => {
    expect(rankByRule(values, rule, value)).toBe(rank);
  });

  it("keeps one direction of a layer of zeros", () => {
    expect(rankByRule(new Float32Array([0, 0]), "energy", 0.9)).toBe(1);
  });
});

describe("quality and error", () => {
  it("a cut drops the tail", () => {
    const found = spectra([3, 4].reverse(), [12]);
    expect(energiesAt(found, [1, 1])).toEqual({ dropped: 9, whole: 169 });
    expect(energiesAt(found, [2, 1]).dropped).toBe(0);
  });

  it("the curve rises to 1 and agrees with the error", () => {
    const found = spectra([4, 3, 2, 1], [5, 0.1]);
    const curve = qualityCurve(found);
    for (let rank = 1; rank <= 4; rank += 1) {
      expect(curve.energy[rank]!).toBeGreaterThanOrEqual(curve.energy[rank - 1]!);
      const { dropped, whole } = energiesAt(found, [rank, rank]);
      expect(1 - dropped / whole).toBeCloseTo(curve.energy[rank]!, 9);
      expect(curve.lowest[rank]!).toBeLessThanOrEqual(curve.mean[rank]!);
    }
    expect(curve.energy[4]).toBeCloseTo(1, 12);
  });

  it("the band holds the layers that reach an index", () => {
    const band = decayBand(spectra([2, 1], [4, 1, 1]));
    expect(band.middle[0]).toBe(1);
    expect(band.low[1]).toBeCloseTo(0.25, 6);
    expect(band.high[1]).toBeCloseTo(0.5, 6);
    expect(band.high[2]).toBeCloseTo(0.25, 6);
  });
});
