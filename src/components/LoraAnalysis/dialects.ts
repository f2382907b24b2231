import type { CONVERT_TARGETS } from "../../app/router";

/** The dialects that are written, and who reads them. */
export const TARGETS: Record<(typeof CONVERT_TARGETS)[number], string> = {
  kohya: "kohya: sd-scripts, A1111, Forge",
  peft: "PEFT: a folder with its configuration",
  diffusers: "diffusers",
  comfyui: "ComfyUI",
};
