/**
 * The binary form of an adapter's spectra, and the curves that the slider needs at sixty frames a second.
 *
 * Bytes 0-7 are the header's length, then JSON, then every singular value as little-endian float32.
 */

export interface LayerMeasures {
  name: string;
  component: string;
  block: string | null;
  kind: string;
  shape: number[];
  rank: number | null;
  scale: number;
  count: number;
  offset: number;
  largest: number;
  frobenius_norm: number;
  nuclear_norm: number;
  effective_rank: number;
  stable_rank: number;
  rank_90: number;
  rank_95: number;
  rank_99: number;
}

export interface PartMeasures {
  component: string;
  block: string | null;
  layers: number;
  frobenius_norm: number;
  energy_share: number;
  largest: number;
  effective_rank_median: number;
  stable_rank_median: number;
  rank_95_median: number;
  rank_95_largest: number;
}

export interface SpectraHeader {
  adapter: string;
  frobenius_norm: number;
  /** Of differences that have no singular values: norms, biases. */
  vector_norm: number;
  components: PartMeasures[];
  blocks: PartMeasures[];
  layers: LayerMeasures[];
  skipped: { name: string; code: string; reason: string; is_error: boolean }[];
  values: number;
}

export interface Spectra extends SpectraHeader {
  /** All singular values, layer after layer; `layers[i].offset` and `.count` say where. */
  data: Float32Array;
  /** Largest number of values in a layer. */
  width: number;
}

export function decodeSpectra(buffer: ArrayBuffer): Spectra {
  const view = new DataView(buffer);
  const length = Number(view.getBigUint64(0, true));
  if (8 + length > buffer.byteLength) throw new Error("the spectra end within their header");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))) as SpectraHeader;
  if (buffer.byteLength !== 8 + length + 4 * header.values) throw new Error("the spectra are not as long as they say");
  const data = isLittleEndian()
    ? new Float32Array(buffer, 8 + length, header.values)
    : swapped(view, 8 + length, header.values);
  const width = header.layers.reduce((most, layer) => Math.max(most, layer.count), 0);
  return { ...header, data, width };
}

function isLittleEndian(): boolean {
  return new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
}

function swapped(view: DataView, offset: number, values: number): Float32Array {
  return Float32Array.from({ length: values }, (_, at) => view.getFloat32(offset + 4 * at, true));
}

export function valuesOf(spectra: Spectra, layer: number): Float32Array {
  const { offset, count } = spectra.layers[layer]!;
  return spectra.data.subarray(offset, offset + count);
}

// -- quality versus rank ------------------------------------------------------------------------------

export interface QualityCurve {
  /** At rank `k = index`: fraction of the whole adapter's energy that stays; index 0 is 0. */
  energy: Float64Array;
  /** Mean over layers of each layer's own fraction. */
  mean: Float64Array;
  /** The layer that keeps least, and the tenth percentile. */
  lowest: Float64Array;
  tenth: Float64Array;
}

/** Cumulative energy of every layer, once; the rest is looked up in it. Row `l`, column `k`: kept at rank `k`. */
export function cumulativeEnergy(spectra: Spectra): { kept: Float64Array[]; total: number } {
  let total = 0;
  const kept = spectra.layers.map((_, layer) => {
    const values = valuesOf(spectra, layer);
    const sums = new Float64Array(values.length + 1);
    for (let at = 0; at < values.length; at += 1) sums[at + 1] = sums[at]! + values[at]! * values[at]!;
    total += sums[values.length]!;
    return sums;
  });
  return { kept, total };
}

export function qualityCurve(spectra: Spectra, top = spectra.width): QualityCurve {
  const { kept, total } = cumulativeEnergy(spectra);
  const make = () => new Float64Array(top + 1);
  const curve: QualityCurve = { energy: make(), mean: make(), lowest: make(), tenth: make() };
  const fractions = new Float64Array(kept.length);
  for (let rank = 0; rank <= top; rank += 1) {
    let sum = 0;
    for (let layer = 0; layer < kept.length; layer += 1) {
      const sums = kept[layer]!;
      const whole = sums[sums.length - 1]!;
      const part = sums[Math.min(rank, sums.length - 1)]!;
      sum += part;
      fractions[layer] = whole > 0 ? part / whole : 1;
    }
    curve.energy[rank] = total > 0 ? sum / total : 1;
    const sorted = Float64Array.from(fractions).sort();
    curve.mean[rank] = sorted.length ? sorted.reduce((a, b) => a + b, 0) / sorted.length : 1;
    curve.lowest[rank] = sorted[0] ?? 1;
    curve.tenth[rank] = sorted[Math.floor(0.1 * (sorted.length - 1))] ?? 1;
  }
  return curve;
}

export type RankRule = "rank" | "energy" | "norm" | "sum" | "ratio" | "layer_error";

/** The smallest rank of one layer that satisfies a rule, as the server chooses it; tested against its plan. */
export function rankByRule(values: Float32Array, rule: RankRule, value: number): number {
  if (rule === "rank") return value;
  if (values.length === 0 || !(values[0]! > 0)) return 1;
  if (rule === "ratio") {
    let rank = 0;
    while (rank < values.length && values[rank]! * value >= values[0]!) rank += 1;
    return Math.max(1, rank);
  }
  const power = rule === "sum" ? 1 : 2;
  let whole = 0;
  for (const one of values) whole += one ** power;
  const share = rule === "energy" || rule === "sum" ? value : rule === "norm" ? value * value : 1 - value * value;
  let sum = 0;
  for (let at = 0; at < values.length; at += 1) {
    sum += values[at]! ** power;
    // Float32 values: a share that is met exactly may miss by their rounding.
    if (sum >= share * whole * (1 - 1e-7)) return at + 1;
  }
  return values.length;
}

/** Σσ² that goes when layer `l` is cut to `ranks[l]`, and that of the whole adapter. */
export function energiesAt(spectra: Spectra, ranks: ArrayLike<number>): { dropped: number; whole: number } {
  let whole = 0;
  let dropped = 0;
  for (let layer = 0; layer < spectra.layers.length; layer += 1) {
    const values = valuesOf(spectra, layer);
    // Summed from the small end, so that a tail of tiny values is not lost beside the large ones.
    for (let at = values.length - 1; at >= 0; at -= 1) {
      const energy = values[at]! * values[at]!;
      whole += energy;
      if (at >= ranks[layer]!) dropped += energy;
    }
  }
  return { dropped, whole };
}

/** A band of decay curves: at each index the given quantiles of s/s1 over the layers that reach it. */
export function decayBand(
  spectra: Spectra,
  low = 0.1,
  high = 0.9,
): { low: Float64Array; middle: Float64Array; high: Float64Array } {
  const make = () => new Float64Array(spectra.width);
  const band = { low: make(), middle: make(), high: make() };
  for (let index = 0; index < spectra.width; index += 1) {
    const found: number[] = [];
    for (let layer = 0; layer < spectra.layers.length; layer += 1) {
      const { offset, count, largest } = spectra.layers[layer]!;
      if (index < count && largest > 0) found.push(spectra.data[offset + index]! / largest);
    }
    found.sort((a, b) => a - b);
    const at = (share: number) => found[Math.round(share * (found.length - 1))] ?? Number.NaN;
    band.low[index] = at(low);
    band.middle[index] = at(0.5);
    band.high[index] = at(high);
  }
  return band;
}
