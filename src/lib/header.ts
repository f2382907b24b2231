/**
 * What a header alone shows, before the server has seen the file. Modules are grouped by the endings that LoRA files
 * share; everything finer (dialects, base model, problems) is the server's to say.
 */

import type { Header, TensorEntry } from "./safetensors";

export interface ModuleRow {
  name: string;
  rank: number | null;
  shape: string;
  dtype: string;
  tensors: number;
  parameters: number;
  bytes: number;
}

export interface HeaderSummary {
  modules: ModuleRow[];
  parameters: number;
  dtypes: [string, number][];
  ranks: [number, number][];
  tags: Map<string, [string, number][]>;
  title: string | null;
}

// The last part of a tensor's name that says which factor it is, and on which axis of it the rank lies.
const ENDINGS: readonly [RegExp, number | null][] = [
  [/\.(?:lora_down|lora_A(?:\.[^.]+)?|lora\.down|down)\.weight$/, 0],
  [/\.(?:lora_up|lora_B(?:\.[^.]+)?|lora\.up|up)\.weight$/, null],
  [/\.lora_mid\.weight$/, null],
  [/\.(?:lora_A|lora_embedding_A)$/, 0],
  [/\.(?:lora_B|lora_embedding_B)$/, null],
  [/\.lora_a$/, 1],
  [/\.lora_b$/, null],
  [/\.(?:hada_w1_b|hada_w2_b|lokr_w1_b|lokr_w2_b)$/, 0],
  [/\.(?:hada_w1_a|hada_w2_a|hada_t1|hada_t2|lokr_w1|lokr_w1_a|lokr_w2|lokr_w2_a|lokr_t2)$/, null],
  [/\.(?:alpha|dora_scale|lora_magnitude_vector(?:\.weight)?|diff|diff_b|bias|weight)$/, null],
];

export function summarise(header: Header): HeaderSummary {
  const modules = new Map<string, ModuleRow>();
  const dtypes = new Map<string, number>();
  let parameters = 0;
  for (const tensor of header.tensors) {
    const values = tensor.shape.reduce((product, size) => product * size, 1);
    const isAlpha = tensor.name.endsWith(".alpha");
    if (!isAlpha) {
      parameters += values;
      dtypes.set(tensor.dtype, (dtypes.get(tensor.dtype) ?? 0) + values);
    }
    addTo(modules, tensor, isAlpha ? 0 : values);
  }
  const rows = [...modules.values()];
  const ranks = new Map<number, number>();
  for (const row of rows) if (row.rank !== null) ranks.set(row.rank, (ranks.get(row.rank) ?? 0) + 1);
  return {
    modules: rows,
    parameters,
    dtypes: [...dtypes].sort((a, b) => b[1] - a[1]),
    ranks: [...ranks].sort((a, b) => a[0] - b[0]),
    tags: tagFrequency(header.metadata.ss_tag_frequency),
    title: header.metadata["modelspec.title"] || header.metadata.ss_output_name || null,
  };
}

function addTo(modules: Map<string, ModuleRow>, tensor: TensorEntry, values: number): void {
  let name = tensor.name;
  let rank: number | null = null;
  for (const [ending, axis] of ENDINGS) {
    const found = ending.exec(tensor.name);
    if (!found) continue;
    name = tensor.name.slice(0, found.index);
    if (axis !== null) rank = tensor.shape[axis] ?? null;
    break;
  }
  const row = modules.get(name);
  const size = tensor.end - tensor.begin;
  if (!row) {
    const shape = tensor.shape.join(" × ");
    modules.set(name, { name, rank, shape, dtype: tensor.dtype, tensors: 1, parameters: values, bytes: size });
    return;
  }
  row.tensors += 1;
  row.parameters += values;
  row.bytes += size;
  row.rank ??= rank;
  if (values > 0 && tensor.shape.length > 1) {
    row.shape =
      row.shape && !tensor.name.endsWith(".alpha") ? joinShapes(row.shape, tensor.shape.join(" × ")) : row.shape;
    row.dtype = tensor.dtype;
  }
}

function joinShapes(one: string, other: string): string {
  if (one === "" || one.split(" · ").length > 3) return one === "" ? other : one;
  return `${one} · ${other}`;
}

/** sd-scripts' ss_tag_frequency: folder -> tag -> count, as JSON text. Anything else is no tags. */
export function tagFrequency(text: string | undefined): Map<string, [string, number][]> {
  const folders = new Map<string, [string, number][]>();
  if (!text) return folders;
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document !== "object" || document === null) return folders;
    for (const [folder, tags] of Object.entries(document)) {
      if (typeof tags !== "object" || tags === null) continue;
      const counted = Object.entries(tags as Record<string, unknown>)
        .filter((entry): entry is [string, number] => typeof entry[1] === "number" && Number.isFinite(entry[1]))
        .map(([tag, times]): [string, number] => [tag.trim(), times])
        .sort((a, b) => b[1] - a[1]);
      folders.set(folder, counted);
    }
  } catch {
    // Not JSON: the raw metadata tab still shows the text as it stands.
  }
  return folders;
}

/** All folders together, most frequent first. */
export function mergeTags(folders: Map<string, [string, number][]>): [string, number][] {
  const total = new Map<string, number>();
  for (const tags of folders.values()) for (const [tag, times] of tags) total.set(tag, (total.get(tag) ?? 0) + times);
  return [...total].sort((a, b) => b[1] - a[1]);
}
