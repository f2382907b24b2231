/**
 * The header of a safetensors file, read in the page: nothing is uploaded, only the first bytes are touched.
 * Format: https://github.com/huggingface/safetensors#format
 */

export interface TensorEntry {
  name: string;
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

export interface Header {
  metadata: Record<string, string>;
  tensors: TensorEntry[];
  headerBytes: number;
  fileBytes: number;
}

export class HeaderError extends Error {
  override name = "HeaderError";
}

/** Bytes of JSON; the format's readers refuse more. */
export const HEADER_LIMIT = 100_000_000;

/** In one read for 97 % of adapters; a second read follows for longer headers. */
const FIRST_READ = 512 * 1024;

const BITS: Record<string, number> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
};

export async function readHeader(file: Blob): Promise<Header> {
  if (file.size < 8) throw new HeaderError(`the file has ${file.size} bytes; a safetensors file has at least 8`);
  const first = new Uint8Array(await file.slice(0, FIRST_READ).arrayBuffer());
  const length = Number(new DataView(first.buffer).getBigUint64(0, true));
  if (length > HEADER_LIMIT) {
    throw new HeaderError(`this is no safetensors file: its header would have ${length.toLocaleString("en-US")} bytes`);
  }
  if (8 + length > file.size) {
    throw new HeaderError(`the header has ${length} bytes, the file only ${file.size}; the download may be incomplete`);
  }
  const body =
    8 + length <= first.length
      ? first.subarray(8, 8 + length)
      : new Uint8Array(await file.slice(8, 8 + length).arrayBuffer());
  return parseHeader(body, file.size);
}

export function parseHeader(body: Uint8Array, fileBytes: number): Header {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw new HeaderError("the header is not UTF-8 text");
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new HeaderError(`the header is not JSON: ${error instanceof Error ? error.message : "cannot be read"}`);
  }
  if (!isRecord(document)) throw new HeaderError("the header is not a JSON object");
  const dataBytes = fileBytes - 8 - body.length;
  const metadata: Record<string, string> = Object.create(null);
  const tensors: TensorEntry[] = [];
  for (const [name, value] of Object.entries(document)) {
    if (name === "__metadata__") readMetadata(value, metadata);
    else tensors.push(readTensor(name, value, dataBytes));
  }
  return { metadata, tensors, headerBytes: body.length + 8, fileBytes };
}

function readMetadata(value: unknown, into: Record<string, string>): void {
  if (!isRecord(value)) throw new HeaderError("__metadata__ is not an object");
  for (const [key, item] of Object.entries(value)) into[key] = typeof item === "string" ? item : JSON.stringify(item);
}

function readTensor(name: string, value: unknown, dataBytes: number): TensorEntry {
  if (!isRecord(value)) throw new HeaderError(`${name}: the entry is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string") throw new HeaderError(`${name}: no dtype is stated`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw new HeaderError(`${name}: the shape is not a list of sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw new HeaderError(`${name}: data_offsets are not two positions`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes) {
    throw new HeaderError(`${name}: its data ends at ${end} of ${dataBytes} bytes; the file may be truncated`);
  }
  const bits = BITS[dtype];
  const values = (shape as number[]).reduce((product, size) => product * size, 1);
  if (bits !== undefined && (values * bits) / 8 !== end - begin) {
    throw new HeaderError(`${name}: ${dtype} of shape [${shape.join(", ")}] does not fill ${end - begin} bytes`);
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
