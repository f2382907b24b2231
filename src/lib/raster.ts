/** Numbers into pixels: one pixel per cell, enlarged by the browser without smoothing. */

import { colorTable, type MapName } from "./color";

export interface Raster {
  rows: number;
  columns: number;
  /** NaN where there is no value: drawn as nothing. */
  at: (row: number, column: number) => number;
}

/**
 * Paints into `pixels` (rgba, rows x columns). Values at `low` and below get the first colour, at `high` and above the
 * last. Absent cells stay transparent.
 */
export function paint(pixels: Uint8ClampedArray, raster: Raster, map: MapName, low: number, high: number): void {
  const table = colorTable(map);
  const factor = high > low ? 255 / (high - low) : 0;
  let place = 0;
  for (let row = 0; row < raster.rows; row += 1) {
    for (let column = 0; column < raster.columns; column += 1, place += 4) {
      const value = raster.at(row, column);
      if (Number.isNaN(value)) {
        pixels[place + 3] = 0;
        continue;
      }
      const level = 3 * Math.round(Math.min(255, Math.max(0, (value - low) * factor)));
      pixels[place] = table[level]!;
      pixels[place + 1] = table[level + 1]!;
      pixels[place + 2] = table[level + 2]!;
      pixels[place + 3] = 255;
    }
  }
}
