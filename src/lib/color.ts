/**
 * Colour maps that keep their order in greyscale and for colour-blind eyes: viridis and cividis for amounts (sampled
 * from matplotlib's tables, which are in the public domain), blue-white-red with equal lightness for signs.
 */

const VIRIDIS =
  "440154471063481f70472d7b4439834046883b528b365d8d31688e2c728e287c8e24868e21918c1f9a8a20a48628ae8035b77948c16e5ec96275d05490d743addc30c8e020e5e419fde725";
const CIVIDIS =
  "00224e002a5f0031701a386f2a3f6d38476c434e6c4d556c575d6d61656f6a6c717374757d7c78868379918b789b9476a59c74b0a571bcae6cc6b667d2c060dec958e9d34ef6dd3ffee838";
const SIGNED = "2166ac4393c392c5ded1e5f0f7f7f7fddbc7f4a582d6604db2182b";

export type MapName = "viridis" | "cividis" | "signed";

const STOPS: Record<MapName, string> = { viridis: VIRIDIS, cividis: CIVIDIS, signed: SIGNED };
const tables = new Map<MapName, Uint8ClampedArray>();

/** 256 colours as r, g, b triples. */
export function colorTable(name: MapName): Uint8ClampedArray {
  const known = tables.get(name);
  if (known) return known;
  const text = STOPS[name];
  const stops = Array.from({ length: Math.floor(text.length / 6) }, (_, at) =>
    [0, 2, 4].map((part) => Number.parseInt(text.slice(6 * at + part, 6 * at + part + 2), 16)),
  );
  const table = new Uint8ClampedArray(768);
  for (let at = 0; at < 256; at += 1) {
    const place = (at / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    for (let part = 0; part < 3; part += 1) {
      table[3 * at + part] = stops[low]![part]! + (place - low) * (stops[low + 1]![part]! - stops[low]![part]!);
    }
  }
  tables.set(name, table);
  return table;
}

export function colorAt(name: MapName, share: number): string {
  const table = colorTable(name);
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)));
  return `rgb(${table[at]}, ${table[at + 1]}, ${table[at + 2]})`;
}

/** Black or white, whichever is easier to read on a colour of the map. */
export function inkOn(name: MapName, share: number): string {
  const table = colorTable(name);
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)));
  const [red, green, blue] = [0, 1, 2].map((part) => {
    const value = table[at + part]! / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/** Categories: Okabe and Ito's set, darkened where white ground needs it. */
export const CATEGORIES = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#b58900",
  "#56b4e9",
  "#7a5195",
  "#6b7280",
] as const;
