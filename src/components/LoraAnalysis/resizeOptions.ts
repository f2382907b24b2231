import type { Schemas } from "../../api/client";
import type { RankRule } from "../../lib/spectra";

/** The ways to choose ranks that the form offers, in the words of docs/resize.md. */
export interface Rule {
  value: string;
  label: string;
  help: string;
  start: number;
  min: number;
  max: number;
  step: number;
  /** Ranks can be worked out in the page from the spectra; others are the server's. */
  local?: RankRule;
}

export const RULES: Rule[] = [
  {
    value: "rank",
    label: "Fixed rank",
    help: "The same rank for every layer, or what a small layer can have.",
    start: 16,
    min: 1,
    max: 128,
    step: 1,
    local: "rank",
  },
  {
    value: "energy",
    label: "Energy kept per layer",
    help: "The smallest rank that keeps this fraction of Σσ² of the layer.",
    start: 0.95,
    min: 0.3,
    max: 1,
    step: 0.005,
    local: "energy",
  },
  {
    value: "norm",
    label: "Norm kept per layer",
    help: "The smallest rank that keeps this fraction of the layer's Frobenius norm.",
    start: 0.95,
    min: 0.3,
    max: 1,
    step: 0.005,
    local: "norm",
  },
  {
    value: "sum",
    label: "Sum of σ kept per layer",
    help: "The smallest rank that keeps this fraction of Σσ of the layer.",
    start: 0.9,
    min: 0.3,
    max: 1,
    step: 0.005,
    local: "sum",
  },
  {
    value: "ratio",
    label: "Ratio σ₁ / σₖ",
    help: "Keeps every σ above σ₁ divided by this.",
    start: 20,
    min: 1,
    max: 200,
    step: 1,
    local: "ratio",
  },
  {
    value: "layer_error",
    label: "Error per layer",
    help: "The smallest rank whose relative error of the layer is at most this.",
    start: 0.2,
    min: 0.01,
    max: 0.9,
    step: 0.01,
    local: "layer_error",
  },
  {
    value: "error",
    label: "Error of the whole adapter",
    help: "The fewest values for at most this relative error of all layers together.",
    start: 0.1,
    min: 0.01,
    max: 0.9,
    step: 0.01,
  },
  {
    value: "size",
    label: "Size of the file (MB)",
    help: "The most energy in a file of at most this size.",
    start: 20,
    min: 0.1,
    max: 2000,
    step: 0.1,
  },
  {
    value: "sv_fro",
    label: "sv_fro (as sd-scripts)",
    help: "What sd-scripts answers: one component more than the norm rule.",
    start: 0.9,
    min: 0.3,
    max: 1,
    step: 0.005,
  },
  {
    value: "sv_ratio",
    label: "sv_ratio (as sd-scripts)",
    help: "What sd-scripts answers: one component more than the ratio rule.",
    start: 20,
    min: 2,
    max: 200,
    step: 1,
  },
  {
    value: "sv_cumulative",
    label: "sv_cumulative (as sd-scripts)",
    help: "What sd-scripts answers: one component more than the sum rule.",
    start: 0.9,
    min: 0.3,
    max: 1,
    step: 0.005,
  },
  {
    value: "knee",
    label: "Knee of each spectrum",
    help: "Up to the knee of the layer's singular values.",
    start: 1,
    min: 1,
    max: 1,
    step: 1,
  },
  {
    value: "recipe",
    label: "Recipe of scores (as resize_lora)",
    help: "Scores single components, also relative to the base model: weights of reference values, and what to keep.",
    start: 1,
    min: 1,
    max: 1,
    step: 1,
  },
];

/** Rules without a number. */
export const WITHOUT_NUMBER = ["knee", "recipe"];

/** Whether a recipe compares with the base model's weights. */
export const needsBase = (recipe: string) => /\b(spn|fro)_ckpt\b/.test(recipe);

export const DTYPES = [
  { value: "keep", label: "as stored" },
  { value: "fp32", label: "fp32" },
  { value: "fp16", label: "fp16" },
  { value: "bf16", label: "bf16" },
  { value: "fp8", label: "fp8" },
];

export const ALPHAS = [
  { value: "keep-scale", label: "keep the scale" },
  { value: "rank", label: "alpha = rank" },
  { value: "baked", label: "no alpha, scale in the factors" },
];

export interface Choice {
  rule: Rule;
  value: number;
  dtype: string;
  alpha: string;
  maxRank?: number;
  recipe: string;
  base?: string;
}

/** The request as the API takes it. */
export function optionsOf({ rule, value, dtype, alpha, maxRank, recipe }: Choice): Schemas["ResizeOptions"] {
  const others: Record<string, unknown> = { knee: true, size: Math.round(value * 1e6), recipe: recipe.trim() };
  const asked = others[rule.value] ?? value;
  const cap = rule.value === "rank" ? {} : maxRank ? { max_rank: maxRank } : {};
  return {
    [rule.value]: asked,
    ...cap,
    dtype,
    alpha,
    method: "svd",
    keep_structure: false,
  } as Schemas["ResizeOptions"];
}

/** A ratio's slider is logarithmic; fractions and ranks are not. */
export function shownValue(rule: Rule, value: number): string {
  if (WITHOUT_NUMBER.includes(rule.value)) return "";
  if (rule.value === "size") return `${value} MB`;
  if (rule.max <= 1) return `${Number((value * 100).toFixed(2))} %`;
  return String(value);
}
