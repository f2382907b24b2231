/** The document of a comparison; docs/compare.md defines every figure. */

export interface ComparedAdapter {
  id: string;
  name: string;
  dialect: string;
  algorithm: string | null;
  family: string | null;
  layers: number;
  size_bytes: number;
}

export interface PairOfAdapters {
  first: number;
  second: number;
  layers_compared: number;
  only_first: string[];
  only_second: string[];
  cosine: number | null;
  chance_cosine: number | null;
  common_cosine: number | null;
  relative_difference: number | null;
  interference: number | null;
  chance_interference: number | null;
  coefficient: number | null;
  norm_ratio: number | null;
  second_within_first: number | null;
  first_within_second: number | null;
  chance_within_first: number | null;
  chance_within_second: number | null;
  left: MeanOverlap | null;
  right: MeanOverlap | null;
  lineage: {
    kind: string;
    origin: number;
    derived: number;
    layers: number;
    layers_compared: number;
    statement: string;
    evidence: string[];
  }[];
}

export interface MeanOverlap {
  rows: number[];
  columns: number[];
  overlap: (number | null)[][];
  chance: (number | null)[][];
}

export interface PartOfAll {
  component: string;
  block: string | null;
  layers: number;
  norms: number[];
  cosines: (number | null)[][];
  interference: number | null;
}

export interface ComparedLayer {
  name: string;
  names: (string | null)[];
  component: string;
  block: string | null;
  shape: number[];
  stored_ranks: (number | null)[];
  norms: number[];
  interference: number | null;
  pairs: {
    first: number;
    second: number;
    cosine: number | null;
    relative_difference: number | null;
    interference: number | null;
  }[];
}

export interface ComparisonDocument {
  adapters: ComparedAdapter[];
  norms: number[];
  cosines: (number | null)[][];
  interference: number | null;
  pairs: PairOfAdapters[];
  components: PartOfAll[];
  blocks: PartOfAll[];
  differences: { field: string; values: unknown[] }[];
  layers: ComparedLayer[];
  skipped: { adapter: number; name: string; code: string; reason: string; is_error: boolean }[];
  notes: string[];
}

/** What two deltas do to each other, beyond what chance would show. */
export function relation(cosine: number | null, chance: number | null): "reinforce" | "cancel" | "independent" {
  if (cosine === null || Math.abs(cosine) < Math.max(0.01, 3 * (chance ?? 0))) return "independent";
  return cosine > 0 ? "reinforce" : "cancel";
}
