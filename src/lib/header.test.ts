import { describe, expect, it } from "vitest";
import { mergeTags, summarise, tagFrequency } from "./header";
import type { Header, TensorEntry } from "./safetensors";

function header(tensors: [string, string, number[]][], metadata: Record<string, string> = {}): Header {
  let begin = 0;
  const entries = tensors.map(([name, dtype, shape]): TensorEntry => {
    const size = shape.reduce((a, b) => a * b, 1) * (dtype === "F32" ? 4 : 2);
    const entry = { name, dtype, shape, begin, end: begin + size };
    begin += size;
    return entry;
  });
  return { metadata, tensors: entries, headerBytes: 100, fileBytes: 100 + begin };
}

describe("what a header shows by itself", () => {
  it.each([
    ["kohya", "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight", "lora_unet_x"],
    [
      "PEFT",
      "base_model.model.q_proj.lora_A.weight",
      "base_model.model.q_proj.lora_B.weight",
      "base_model.model.q_proj",
    ],
    ["PEFT with an adapter's name", "q.lora_A.default.weight", "q.lora_B.default.weight", "q"],
    ["diffusers of old", "unet.to_q.lora.down.weight", "unet.to_q.lora.up.weight", "unet.to_q"],
  ])("groups factors of %s and takes the rank from the down factor", (_dialect, down, up, name) => {
    const { modules, parameters, ranks } = summarise(
      header([
        [down, "F16", [4, 32]],
        [up, "F16", [64, 4]],
      ]),
    );
    expect(modules).toMatchObject([{ name, rank: 4, tensors: 2, parameters: 384, bytes: 768 }]);
    expect(parameters).toBe(384);
    expect(ranks).toEqual([[4, 1]]);
  });

  it("takes MLX' rank from the other axis", () => {
    expect(
      summarise(
        header([
          ["q.lora_a", "F32", [32, 8]],
          ["q.lora_b", "F32", [8, 64]],
        ]),
      ).modules[0]?.rank,
    ).toBe(8);
  });

  it("counts alphas as tensors and not as parameters", () => {
    const { modules, parameters, dtypes } = summarise(
      header([
        ["a.lora_down.weight", "F16", [2, 4]],
        ["a.lora_up.weight", "F16", [4, 2]],
        ["a.alpha", "F32", []],
      ]),
    );
    expect(modules[0]?.tensors).toBe(3);
    expect(parameters).toBe(16);
    expect(dtypes).toEqual([["F16", 16]]);
  });

  it("reads tags of every folder, and lets what is no tag table be", () => {
    const folders = tagFrequency('{"10_cat":{"cat":5," dog ":1},"2_dog":{"dog":9,"odd":"x"}}');
    expect(mergeTags(folders)).toEqual([
      ["dog", 10],
      ["cat", 5],
    ]);
    expect(tagFrequency("not json").size).toBe(0);
    expect(tagFrequency("[1]").size).toBe(0);
    expect(tagFrequency(undefined).size).toBe(0);
  });
});
