/** `<lora:name:weight>` tags, as prompts of A1111 and its relatives have them. */

export interface PromptTag {
  name: string;
  weight: number;
}

const TAG = /<(?:lora|lyco):([^:<>]+)(?::([^<>]*))?>/g;

/** Every tag of a prompt. The weight is the first plain number after the name, or that of `unet=`; 1 without one. */
export function promptTags(prompt: string): PromptTag[] {
  return [...prompt.matchAll(TAG)].map(([, name, rest]) => {
    const parts = (rest ?? "").split(":");
    const named = parts.map((part) => /^unet=(.+)$/.exec(part.trim())?.[1]).find(Boolean);
    const plain = parts.find((part) => part.trim() !== "" && Number.isFinite(Number(part)));
    const weight = Number(named ?? plain ?? 1);
    return { name: name!.trim(), weight: Number.isFinite(weight) ? weight : 1 };
  });
}
