import { describe, expect, it } from "vitest";
import { colorTable, inkOn } from "./color";
import { relation } from "./comparison";
import { toCsv, toJson, toTsv } from "./export";
import { bytes, fileStem, number, percent, printable, seconds, short } from "./format";
import { groupsOf, orderRows } from "./layers";
import { isDocument, isOneFile } from "./output";
import { promptTags } from "./prompt";
import { paint } from "./raster";
import * as read from "./search";
import { linearScale, linearTicks, logScale, logTicks, tickLabel } from "./ticks";

describe("numbers", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [1_727_912, "1.73 MB"],
    [912_549_292, "913 MB"],
    [null, "–"],
  ])("%s bytes", (value, text) => {
    expect(bytes(value)).toBe(text);
  });
  it.each([
    [0, "0"],
    [0.0001, "1e-4"],
    [0.00012345, "1.23e-4"],
    [1.5, "1.5"],
    [1.3, "1.3"],
    [123456, "1.23e5"],
    [Number.NaN, "–"],
    [-0.25, "-0.25"],
  ])("%s", (value, text) => {
    expect(number(value)).toBe(text);
  });
  it("percent, short, seconds", () => {
    expect(percent(0.12345, 2)).toBe("12.35 %".replace("35", "35"));
    expect(short(846_544)).toBe("847 k");
    expect(short(12)).toBe("12");
    expect(seconds(0.5)).toBe("500 ms");
    expect(seconds(75)).toBe("1 min 15 s");
    expect(seconds(7300)).toBe("2 h 1 min");
  });
});

describe("text from files", () => {
  it("shows what would turn text around", () => {
    expect(printable("a\u202eb\u0000c\n")).toBe("a\\u202eb\\u0000c\n");
  });
  it("makes names that are safe to save", () => {
    expect(fileStem("../../etc/pass wd.safetensors")).toBe("etc-pass-wd");
    expect(fileStem("...")).toBe("lora");
  });
});

describe("axis ticks", () => {
  it("are 1, 2 and 5 times powers of ten", () => {
    expect(linearTicks(0, 1)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(linearTicks(0, 0.26, 4)).toEqual([0, 0.1, 0.2]);
    expect(linearTicks(-3, 12, 5)).toEqual([0, 5, 10]);
    expect(linearTicks(2, 2)).toEqual([2]);
    expect(logTicks(0.001, 1000)).toEqual([0.001, 0.01, 0.1, 1, 10, 100, 1000]);
    expect(logTicks(0.1, 2)).toEqual([0.1, 0.2, 0.5, 1, 2]);
  });
  it("scales go there and back", () => {
    for (const scale of [linearScale([2, 8], [100, 20]), logScale([0.01, 10], [0, 300])]) {
      for (const value of [2, 3.3, 8]) expect(scale.invert(scale(value))).toBeCloseTo(value, 9);
    }
  });
  it("labels are short", () => {
    expect(tickLabel(0.30000000000000004)).toBe("0.3");
    expect(tickLabel(1e-5)).toBe("1e-5");
  });
});

describe("the link's state", () => {
  it("goes there and back", () => {
    const state = { q: "a&b=c", tag: ["one, two", "three"], all_tags: true, rank_min: 4 };
    const parsed = read.parseSearch(read.stringifySearch(state).slice(1));
    expect(read.text(parsed, "q")).toBe("a&b=c");
    expect(read.list(parsed, "tag")).toEqual(["one, two", "three"]);
    expect(read.flag(parsed, "all_tags")).toBe(true);
    expect(read.integer(parsed, "rank_min")).toBe(4);
  });
  it("leaves out what is empty", () => {
    expect(read.stringifySearch({ a: undefined, b: "", c: [], d: false, e: null })).toBe("");
  });
  it("does not believe everything", () => {
    const odd = read.parseSearch(
      "id=../../x&rank=-3&value=NaN&tab=nothing&ids=zz&ids=0123456789abcdef0123&__proto__=1",
    );
    expect(read.id(odd, "id")).toBeUndefined();
    expect(read.integer(odd, "rank", 1)).toBeUndefined();
    expect(read.decimal(odd, "value")).toBeUndefined();
    expect(read.oneOf(odd, "tab", ["a", "b"])).toBeUndefined();
    expect(read.ids(odd, "ids")).toEqual(["0123456789abcdef0123"]);
  });
});

describe("exports", () => {
  const table = {
    columns: ["name", "value"],
    rows: [
      ['say "a, b"', 1.5],
      ["=cmd()", -2],
      ["line\nbreak", null],
    ],
  };
  it("CSV quotes what needs it, and no spreadsheet runs a file's text", () => {
    expect(toCsv(table)).toBe('name,value\r\n"say ""a, b""",1.5\r\n\'=cmd(),-2\r\n"line\nbreak",\r\n');
  });
  it("JSON and clipboard", () => {
    expect(JSON.parse(toJson(table))[1]).toEqual({ name: "=cmd()", value: -2 });
    expect(toTsv(table).split("\n")).toHaveLength(4);
  });
});

describe("heatmaps", () => {
  it("paint the ends of the map and leave gaps clear", () => {
    const pixels = new Uint8ClampedArray(16);
    const values = [0, 1, Number.NaN, 5];
    paint(pixels, { rows: 2, columns: 2, at: (row, column) => values[2 * row + column]! }, "viridis", 0, 1);
    const table = colorTable("viridis");
    expect([...pixels.subarray(0, 4)]).toEqual([...table.subarray(0, 3), 255]);
    expect([...pixels.subarray(4, 7)]).toEqual([...table.subarray(765)]);
    expect(pixels[11]).toBe(0);
    expect([...pixels.subarray(12, 15)]).toEqual([...table.subarray(765)]);
  });
  it("a map's lightness rises, so that grey prints keep the order", () => {
    for (const name of ["viridis", "cividis"] as const) {
      const table = colorTable(name);
      const light = Array.from(
        { length: 256 },
        (_, at) => 0.2126 * table[3 * at]! + 0.7152 * table[3 * at + 1]! + 0.0722 * table[3 * at + 2]!,
      );
      for (let at = 8; at < 256; at += 8) expect(light[at]!).toBeGreaterThan(light[at - 8]!);
    }
    expect(inkOn("viridis", 0)).toBe("#fff");
    expect(inkOn("viridis", 1)).toBe("#000");
  });
  it("986 layers by 128 values are painted within the budget of 50 ms", () => {
    const [rows, columns] = [986, 128];
    const values = Float32Array.from({ length: rows * columns }, (_, at) => (at * 7919) % 1000);
    const pixels = new Uint8ClampedArray(rows * columns * 4);
    const times = Array.from({ length: 5 }, () => {
      const began = performance.now();
      paint(pixels, { rows, columns, at: (row, column) => values[row * columns + column]! }, "viridis", 0, 1000);
      return performance.now() - began;
    });
    expect(Math.min(...times)).toBeLessThan(50);
  });
});

describe("rows and prompts", () => {
  it("rows keep together by component and block", () => {
    const rows = [
      { component: "unet", block: "a" },
      { component: "text_encoder", block: "0" },
      { component: "unet", block: "b" },
      { component: "unet", block: "a" },
    ];
    const order = orderRows(rows);
    expect(order).toEqual([0, 3, 2, 1]);
    expect(groupsOf(order.map((at) => rows[at]!))).toEqual([
      { row: 0, name: "unet a" },
      { row: 2, name: "unet b" },
      { row: 3, name: "te1 0" },
    ]);
  });
  it("weights are read out of prompts", () => {
    expect(promptTags("a cat, <lora:style:0.7> <lora:x y:-1> <lyco:z> <lora:w:te=0.5:unet=0.25> <lora:>")).toEqual([
      { name: "style", weight: 0.7 },
      { name: "x y", weight: -1 },
      { name: "z", weight: 1 },
      { name: "w", weight: 0.25 },
    ]);
  });
  it("what chance explains is no relation", () => {
    expect(relation(0.5, 0.01)).toBe("reinforce");
    expect(relation(-0.5, 0.01)).toBe("cancel");
    expect(relation(0.02, 0.01)).toBe("independent");
    expect(relation(null, null)).toBe("independent");
  });
});

it("what a job found out is a document, unless it is binary, a page or a picture", () => {
  expect(["resize", "verify", "scan"].every((kind) => isDocument({ kind }))).toBe(true);
  expect(["spectra", "report", "figure"].some((kind) => isDocument({ kind }))).toBe(false);
});

it("a job wrote one file where its output has an ending, else a folder", () => {
  expect(isOneFile({ params: { output: "a_r4.safetensors" } })).toBe(true);
  expect(isOneFile({ params: { output: "sdxl-character-kohya_peft" } })).toBe(false);
  expect(isOneFile({ params: {} })).toBe(false);
});
