/** The real server on the demo library, in folders of its own. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const LORA = process.env.LORA ?? resolve(".venv/bin/lora");
export const CHROMIUM = [
  process.env.CHROMIUM_PATH,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path && existsSync(path));

export function whyNot(): string | null {
  if (!CHROMIUM) return "no Chromium (CHROMIUM_PATH, or /usr/bin/chromium)";
  if (!existsSync(LORA)) return `no ${LORA}; run make first`;
  if (!existsSync("dist/index.html")) return "the UI is not built; run npm run build";
  return null;
}

export const TOKEN = "browser-tests-browser-tests";

export interface Running {
  folder: string;
  library: string;
  url: string;
  port: number;
  stop: () => Promise<void>;
  restart: () => Promise<void>;
}

export async function start(): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), "lora-ui-"));
  const library = join(folder, "library");
  execFileSync(LORA, ["demo", library], { stdio: "ignore" });
  writeFileSync(join(library, "many-layers.safetensors"), manyLayers());
  writeFileSync(join(library, "hostile.safetensors"), hostile());
  writeFileSync(join(library, "damaged.safetensors"), hostile().subarray(0, 40));
  const adapters = ["sdxl-character-kohya.safetensors", "sdxl-portrait-dora.safetensors"];
  writeFileSync(
    join(library, "sdxl-base.safetensors"),
    baseOf(
      adapters.map((name) => join(library, name)),
      folder,
    ),
  );
  let { child, port } = await launch(folder, library, 0);
  return {
    folder,
    library,
    url: `http://127.0.0.1:${port}`,
    port,
    stop: async () => {
      await end(child);
      rmSync(folder, { recursive: true, force: true });
    },
    restart: async () => {
      await end(child);
      ({ child } = await launch(folder, library, port));
    },
  };
}

async function launch(folder: string, library: string, port: number): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(
    LORA,
    [
      "serve",
      library,
      "--port",
      String(port),
      "--no-browser",
      "--state",
      join(folder, "state"),
      "--output",
      join(folder, "out"),
    ],
    { env: { ...process.env, LORA_TOKEN: TOKEN }, stdio: ["ignore", "pipe", "inherit"] },
  );
  const lines = createInterface({ input: child.stdout! });
  const address = await new Promise<string>((found, failed) => {
    lines.on("line", (line) => {
      const match = /http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
      if (match) found(match[1]!);
    });
    child.on("exit", (code) => failed(new Error(`lora serve ended with ${code}`)));
  });
  for (let at = 0; at < 100; at += 1) {
    try {
      if ((await fetch(`http://127.0.0.1:${address}/api/v1/health`)).ok) break;
    } catch {
      await new Promise((later) => setTimeout(later, 100));
    }
  }
  return { child, port: Number(address) };
}

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return Promise.resolve();
  return new Promise((done) => {
    child.on("exit", () => done());
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), 8_000).unref();
  });
}

/** Base weights for adapters, under the names of an original checkpoint, which ComfyUI's names come from. */
function baseOf(paths: string[], folder: string): Buffer {
  const tensors = new Map<string, [string, string, number[]]>();
  for (const path of paths) {
    const converted = join(folder, "converted.safetensors");
    execFileSync(LORA, ["convert", path, "--to", "comfyui", "-o", converted, "--force"], { stdio: "ignore" });
    const data = readFileSync(converted);
    const length = Number(data.readBigUInt64LE(0));
    const header = JSON.parse(data.subarray(8, 8 + length).toString()) as Record<string, { shape: number[] }>;
    for (const [name, { shape }] of Object.entries(header)) {
      const module = name.replace(/\.lora_A\.weight$/, "");
      if (module === name) continue;
      const key = `${module.replace(/^diffusion_model/, "model.diffusion_model")}.weight`;
      tensors.set(key, [key, "F16", [header[`${module}.lora_B.weight`]!.shape[0]!, ...shape.slice(1)]]);
    }
  }
  return safetensors([...tensors.values()], {});
}

/** 986 layers as an SDXL adapter has, of rank 32, with values that look trained enough: about 60 MB. */
export function manyLayers(layers = 986, rank = 32, width = 480): Buffer {
  const tensors: [string, string, number[]][] = [];
  for (let at = 0; at < layers; at += 1) {
    const name = `lora_unet_input_blocks_${4 + (at % 5)}_1_transformer_blocks_${Math.floor(at / 10) % 10}_attn${1 + (at % 2)}_${at}`;
    tensors.push([`${name}.lora_down.weight`, "F16", [rank, width]]);
    tensors.push([`${name}.lora_up.weight`, "F16", [width, rank]]);
  }
  return safetensors(tensors, { ss_network_dim: String(rank), ss_network_alpha: String(rank), ss_output_name: "many" });
}

const MARKUP = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>';

/** Text of a file that tries to be markup, everywhere the page shows text of files. */
export function hostile(): Buffer {
  const tags = { [MARKUP]: { [MARKUP]: 5, "javascript:alert(1)": 3, "\u202egnp.exe": 2 } };
  return safetensors(
    [
      [`${MARKUP}.lora_down.weight`, "F16", [4, 32]],
      [`${MARKUP}.lora_up.weight`, "F16", [32, 4]],
      ["lora_unet_x.lora_down.weight", "F16", [4, 32]],
      ["lora_unet_x.lora_up.weight", "F16", [32, 4]],
    ],
    {
      ss_output_name: MARKUP,
      "modelspec.title": MARKUP,
      "modelspec.author": MARKUP,
      ss_tag_frequency: JSON.stringify(tags),
      [MARKUP]: MARKUP,
    },
  );
}

function safetensors(tensors: [string, string, number[]][], metadata: Record<string, string>): Buffer {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, dtype, shape] of tensors) {
    const bytes = shape.reduce((a, b) => a * b, 2);
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  const data = Buffer.alloc(offset);
  let seed = 12345;
  for (let at = 0; at < offset; at += 2) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    // fp16 of about ±0.01 to ±0.06: sign, an exponent of 8 or 9, ten bits of mantissa
    data.writeUInt16LE(((seed >>> 16) & 0x8000) | 0x2000 | ((seed >>> 8) & 0x07ff), at);
  }
  return Buffer.concat([length, Buffer.from(text), data]);
}
