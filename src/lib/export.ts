/** Files made in the page: figures as PNG and SVG, data as CSV and JSON. */

import { fileStem } from "./format";

export type Cell = string | number | boolean | null | undefined;

export interface Table {
  columns: string[];
  rows: Cell[][];
}

export function toCsv({ columns, rows }: Table): string {
  return [columns, ...rows]
    .map((row) => row.map(csvCell).join(","))
    .join("\r\n")
    .concat("\r\n");
}

function csvCell(value: Cell): string {
  if (value === null || value === undefined) return "";
  const text = String(value);
  // A text that a spreadsheet would run as a formula gets an apostrophe; numbers stay numbers.
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

export function toJson({ columns, rows }: Table): string {
  const records = rows.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at] ?? null])));
  return `${JSON.stringify(records, null, 2)}\n`;
}

/** Tab-separated, which every spreadsheet and chat takes from the clipboard. */
export function toTsv({ columns, rows }: Table): string {
  return [columns, ...rows]
    .map((row) => row.map((value) => String(value ?? "").replace(/[\t\r\n]+/g, " ")).join("\t"))
    .join("\n");
}

export function exportName(subject: string, view: string, suffix: string): string {
  return `${fileStem(subject)}.${fileStem(view)}.${suffix}`;
}

export function save(name: string, content: Blob | string, type = "text/plain;charset=utf-8"): void {
  const blob = typeof content === "string" ? new Blob([content], { type }) : content;
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * A drawn SVG as a document of its own: colours that came from the page's style sheet are written into it, and a
 * canvas laid under the drawing becomes an image within it.
 */
export function svgDocument(svg: SVGSVGElement, ground: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  inline(svg, copy);
  const { width, height } = sizeOf(svg);
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  paper.setAttribute("width", "100%");
  paper.setAttribute("height", "100%");
  paper.setAttribute("fill", ground);
  copy.prepend(paper);
  for (const canvas of svg.parentElement?.querySelectorAll<HTMLCanvasElement>("canvas[data-figure]") ?? []) {
    const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
    const [left, top] = (canvas.dataset.place ?? "0 0").split(" ").map(Number) as [number, number];
    image.setAttribute("x", String(left));
    image.setAttribute("y", String(top));
    image.setAttribute("width", String(canvas.clientWidth));
    image.setAttribute("height", String(canvas.clientHeight));
    image.setAttribute("href", canvas.toDataURL("image/png"));
    paper.after(image);
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(copy)}\n`;
}

const PAINTED = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-opacity",
  "fill-opacity",
  "opacity",
  "font-size",
  "font-family",
  "font-weight",
  "text-anchor",
  "dominant-baseline",
];

function inline(from: Element, to: Element): void {
  const style = getComputedStyle(from);
  for (const name of PAINTED) {
    const value = style.getPropertyValue(name);
    if (value) to.setAttribute(name, value);
  }
  to.removeAttribute("class");
  to.removeAttribute("style");
  for (let at = 0; at < from.children.length; at += 1) inline(from.children[at]!, to.children[at]!);
}

function sizeOf(svg: SVGSVGElement): { width: number; height: number } {
  const box = svg.getBoundingClientRect();
  return { width: Math.round(box.width), height: Math.round(box.height) };
}

/** The same drawing as pixels, twice as many as on the screen. */
export async function pngBlob(svg: SVGSVGElement, ground: string): Promise<Blob> {
  const { width, height } = sizeOf(svg);
  const image = new Image();
  const address = URL.createObjectURL(new Blob([svgDocument(svg, ground)], { type: "image/svg+xml;charset=utf-8" }));
  try {
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = width * 2;
    canvas.height = height * 2;
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise<Blob>((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser made no picture"))), "image/png");
    });
  } finally {
    URL.revokeObjectURL(address);
  }
}
