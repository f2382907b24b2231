import { useMemo } from "react";
import { predictedSize, type SizeModel, uniformRanks } from "../../lib/size";
import { energiesAt, qualityCurve, rankByRule, type Spectra, valuesOf } from "../../lib/spectra";
import type { Choice } from "./resizeOptions";

export interface Prediction {
  /** By layer of the size model. */
  ranks: number[];
  bytes: number;
  exact: boolean;
  /** Of the whole adapter, vectors included, as the plan states it. */
  error: number | null;
  /** Of all singular values. */
  energy: number | null;
}

/** What the form's choice would give, worked out in the page within a frame; null where only the server can say. */
export function predict(choice: Choice, spectra: Spectra | undefined, model: SizeModel | undefined): Prediction | null {
  const { rule, value, maxRank } = choice;
  if (!rule.local || !model) return null;
  const isFixed = rule.local === "rank";
  if (!isFixed && !spectra) return null;
  const places = spectra ? placesOf(spectra) : new Map<string, number[]>();
  let ranks = isFixed ? uniformRanks(model, value) : [];
  if (!isFixed) {
    ranks = model.layers.map((layer) => {
      // Stacked experts have a spectrum each; one rank serves all of them, so the one that needs most decides.
      const own = places.get(layer.name) ?? [];
      const wanted = own.map((at) => rankByRule(valuesOf(spectra!, at), rule.local!, value));
      const rank = Math.min(Math.max(1, ...wanted), maxRank ?? Number.POSITIVE_INFINITY);
      return Math.min(rank, layer.limit ?? rank, layer.old_rank ?? rank);
    });
  }
  const size = predictedSize(model, ranks, isFixed ? value : null);
  const measured = spectra ? errorOf(spectra, model, ranks) : null;
  return {
    ranks,
    bytes: size.bytes,
    exact: size.exact,
    error: measured?.error ?? null,
    energy: measured?.energy ?? null,
  };
}

function placesOf(spectra: Spectra): Map<string, number[]> {
  const places = new Map<string, number[]>();
  spectra.layers.forEach((layer, at) => {
    const module = layer.name.replace(/\[\d+\]$/, "");
    for (const name of new Set([layer.name, module])) places.set(name, [...(places.get(name) ?? []), at]);
  });
  return places;
}

/** Layers that stay as they are count with their norms; vectors have no singular values, and so no energy here. */
function errorOf(spectra: Spectra, model: SizeModel, ranks: number[]): { error: number; energy: number } {
  const places = new Map(model.layers.map((layer, at) => [layer.name, at]));
  const all = spectra.layers.map((layer) => {
    const at = places.get(layer.name) ?? places.get(layer.name.replace(/\[\d+\]$/, ""));
    return at === undefined ? layer.count : ranks[at]!;
  });
  const { dropped, whole } = energiesAt(spectra, all);
  const error = dropped > 0 ? Math.sqrt(dropped / (whole + spectra.vector_norm ** 2)) : 0;
  return { error, energy: keptShare(dropped, whole) };
}

function keptShare(dropped: number, whole: number): number {
  return whole > 0 ? 1 - dropped / whole : 1;
}

/** Energy of the whole adapter that a plan's ranks keep. */
export function energyOfPlan(
  spectra: Spectra,
  layers: { layer: string; new_rank: number | null; action: string }[],
): number {
  const ranks = new Map(layers.map((one) => [one.layer, one.action === "keep" ? null : one.new_rank]));
  const own = spectra.layers.map(
    (layer) => ranks.get(layer.name) ?? ranks.get(layer.name.replace(/\[\d+\]$/, "")) ?? layer.count,
  );
  const { dropped, whole } = energiesAt(spectra, own);
  return keptShare(dropped, whole);
}

export interface CurvePoint {
  rank: number;
  energy: number;
  mean: number;
  tenth: number;
  lowest: number;
  bytes: number | null;
}

/** Quality and size at every rank: drawn once per adapter and type, read at sixty frames a second. */
export function useCurve(spectra: Spectra | undefined, model: SizeModel | undefined): CurvePoint[] {
  return useMemo(() => {
    if (!spectra || spectra.layers.length === 0) return [];
    const top = Math.max(spectra.width, model?.metadata_bytes.length ?? 1);
    const curve = qualityCurve(spectra, top);
    return Array.from({ length: top }, (_, at) => {
      const rank = at + 1;
      const known = model && rank <= model.metadata_bytes.length;
      return {
        rank,
        energy: curve.energy[rank]!,
        mean: curve.mean[rank]!,
        tenth: curve.tenth[rank]!,
        lowest: curve.lowest[rank]!,
        bytes: known ? predictedSize(model, uniformRanks(model, rank), rank).bytes : null,
      };
    });
  }, [spectra, model]);
}
