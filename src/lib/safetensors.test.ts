import { describe, expect, it } from "vitest";
import { HeaderError, parseHeader, readHeader } from "./safetensors";

function file(header: unknown, data = 0, tail = ""): Blob {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const body = new TextEncoder().encode(text + tail);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(body.length), true);
  return new Blob([length, body, new Uint8Array(data)]);
}

const TENSOR = { dtype: "F16", shape: [2, 3], data_offsets: [0, 12] };

describe("reading the header of a file", () => {
  it("gives metadata, tensors and sizes", async () => {
    const found = await readHeader(file({ __metadata__: { ss_steps: "10" }, "a.lora_down.weight": TENSOR }, 12, "   "));
    expect(found.metadata.ss_steps).toBe("10");
    expect(found.tensors).toEqual([{ name: "a.lora_down.weight", dtype: "F16", shape: [2, 3], begin: 0, end: 12 }]);
    expect(found.fileBytes).toBe(found.headerBytes + 12);
  });

  it("reads headers longer than the first piece", async () => {
    const tensors: Record<string, unknown> = {};
    for (let at = 0; at < 9000; at += 1)
      tensors[`layer_${at}_with_a_name_of_some_length.lora_up.weight`] = {
        dtype: "F32",
        shape: [1],
        data_offsets: [4 * at, 4 * at + 4],
      };
    const found = await readHeader(file(tensors, 36_000));
    expect(found.headerBytes).toBeGreaterThan(512 * 1024);
    expect(found.tensors).toHaveLength(9000);
  });

  it("touches nothing behind the header", async () => {
    const whole = file({ a: TENSOR }, 12);
    const read: [number, number][] = [];
    const slice = whole.slice.bind(whole);
    whole.slice = (start = 0, end = whole.size) => {
      read.push([start, end]);
      return slice(start, end);
    };
    Object.defineProperty(whole, "arrayBuffer", { value: () => Promise.reject(new Error("the whole file was read")) });
    await readHeader(whole);
    expect(read).toEqual([[0, 512 * 1024]]);
  });

  it.each([
    ["an empty file", new Blob([]), /0 bytes/],
    ["another kind of file", new Blob(["PK\u0003\u0004 and so on, which is no length"]), /no safetensors file/],
    ["a header longer than the file", new Blob([new Uint8Array([200, 0, 0, 0, 0, 0, 0, 0, 123])]), /incomplete/],
    ["what is no JSON", file("{nonsense"), /not JSON/],
    ["a list", file("[]"), /not a JSON object/],
    ["an entry that is no object", file({ a: 3 }), /a: the entry/],
    ["a negative size", file({ a: { ...TENSOR, shape: [-2, 3] } }, 12), /a: the shape/],
    ["data beyond the end", file({ a: TENSOR }, 11), /truncated/],
    ["a shape that does not fit", file({ a: { ...TENSOR, shape: [2, 4] } }, 12), /does not fill/],
    ["offsets in the wrong order", file({ a: { ...TENSOR, data_offsets: [12, 0] } }, 12), /a: its data/],
  ])("refuses %s", async (_what, blob, message) => {
    await expect(readHeader(blob)).rejects.toThrow(HeaderError);
    await expect(readHeader(blob)).rejects.toThrow(message);
  });

  it("keeps names that mean something to JavaScript apart from its objects", () => {
    const body = new TextEncoder().encode(
      '{"__metadata__":{"__proto__":"x","constructor":"y"},"toString":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    );
    const found = parseHeader(body, 8 + body.length + 1);
    expect(Object.keys(found.metadata)).toContain("constructor");
    expect(found.tensors[0]?.name).toBe("toString");
  });

  it("refuses text that is not UTF-8", () => {
    expect(() => parseHeader(new Uint8Array([123, 34, 255, 34, 125]), 13)).toThrow(/UTF-8/);
  });
});
