/** Numbers and dates as people read them. One locale on purpose: figures must look the same in every screenshot. */

const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  let at = 0;
  let size = value;
  while (Math.abs(size) >= 999.5 && at < UNITS.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 ? size : size.toPrecision(3)} ${UNITS[at]}`;
}

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : value.toLocaleString("en-US");
}

/** 846544 -> "847 k": for columns, where the exact number would be noise. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const steps: [number, string][] = [
    [1e12, " T"],
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ];
  for (const [step, letter] of steps)
    if (Math.abs(value) >= step * 0.9995) return (value / step).toPrecision(3) + letter;
  return String(value);
}

/** Three significant digits, with an exponent where zeros would have to be counted. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(Math.max(0, digits - 1)).replace(/\.?0*e\+?/, "e");
  const text = value.toPrecision(digits);
  return text.includes("e") ? String(Number(text)) : text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

export function percent(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return `${(value * 100).toFixed(digits)} %`;
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  const whole = Math.round(value);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

export function date(value: string | null | undefined): string {
  if (!value) return "–";
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? value : at.toISOString().slice(0, 16).replace("T", " ");
}

/** One rank, or the smallest and the largest. */
export function rankText({ rank }: { rank: { min: number; max: number } | null }): string {
  if (!rank) return "–";
  return rank.min === rank.max ? String(rank.min) : `${rank.min}–${rank.max}`;
}

/** The form a file's stem takes in the name of an export: nothing a file system or a shell minds. */
export function fileStem(name: string): string {
  return (
    name
      .replace(/\.[A-Za-z0-9]{1,12}$/, "")
      .replace(/[^\p{L}\p{N}._-]+/gu, "-")
      .replace(/^[-.]+|[-.]+$/g, "") || "lora"
  );
}

/** Characters that change how text around them is shown (bidirectional overrides, controls) as visible escapes. */
export function printable(text: string): string {
  return text.replace(
    /(?![\t\n])[\p{Cc}\p{Cf}]/gu,
    (sign) => `\\u${(sign.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}
