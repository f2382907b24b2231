/**
 * The size of a resized file at any rank, to the byte, from the server's size model. The same arithmetic as
 * `lora_analysis.resizing.size_model`, whose tests hold it to the plan; tested here against the server's plan.
 */

export interface SizeModel {
  layers: { name: string; old_rank: number | null; keep_at: number | null; limit: number | null }[];
  tensors: { name_bytes: number; layer: number | null; kept: Form | null; changed: Form | null }[];
  metadata_bytes: number[];
  size_before: number;
}

/** Bits per value; sizes, negative where a size is that many times the rank; letters of the type's name. */
export type Form = [number, number[], number];

export interface PredictedSize {
  bytes: number;
  /** Whether the header's words are known too: they are for one rank for all layers. */
  exact: boolean;
}

export function uniformRanks(model: SizeModel, rank: number): number[] {
  return model.layers.map((layer) => (layer.limit === null ? rank : Math.min(rank, layer.limit)));
}

/** The file's size when layer `l` has `ranks[l]`; `rank` is the rank asked for where it is one for all layers. */
export function predictedSize(model: SizeModel, ranks: ArrayLike<number>, rank: number | null): PredictedSize {
  const known = rank !== null && rank >= 1 && rank <= model.metadata_bytes.length;
  const metadata = known ? model.metadata_bytes[rank - 1]! : (model.metadata_bytes.at(-1) ?? 0);
  let header = 2 + metadata;
  let offset = 0;
  for (const width of widths(model)) {
    for (const tensor of model.tensors) {
      const { layer } = tensor;
      const isKept = layer === null || model.layers[layer]!.keep_at === ranks[layer];
      const form = isKept ? tensor.kept : tensor.changed;
      if (form === null || form[0] !== width) continue;
      const own = layer === null ? 0 : ranks[layer]!;
      let values = 1;
      let letters = Math.max(0, form[1].length - 1); // commas
      for (const size of form[1]) {
        const whole = size >= 0 ? size : -size * own;
        values *= whole;
        letters += digits(whole);
      }
      const end = offset + Math.floor((values * width) / 8);
      // ,NAME:{"dtype":"F16","shape":[4,320],"data_offsets":[0,2560]}
      header += 44 + tensor.name_bytes + form[2] + letters + digits(offset) + digits(end);
      offset = end;
    }
  }
  return { bytes: 8 + Math.ceil(header / 8) * 8 + offset, exact: known };
}

/** Types in the writer's order, widest first. */
function widths(model: SizeModel): number[] {
  const found = new Set<number>();
  for (const { kept, changed } of model.tensors) {
    if (kept) found.add(kept[0]);
    if (changed) found.add(changed[0]);
  }
  return [...found].sort((a, b) => b - a);
}

function digits(value: number): number {
  let letters = 1;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) letters += 1;
  return letters;
}
