import { Button, Modal, Stack, Text, Textarea } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../../api/client";
import { libraryPage } from "../../api/queries";
import { promptTags } from "../../lib/prompt";

/** Reads `<lora:name:weight>` tags out of a pasted prompt and finds the adapters in the library. */
export function PasteTags({ onFound }: { onFound: (inputs: Schemas["MergeInput"][]) => void }) {
  const [opened, { open, close }] = useDisclosure(false);
  const [prompt, setPrompt] = useState("");
  const client = useQueryClient();
  const tags = promptTags(prompt);
  const find = useMutation({
    mutationFn: async () => {
      const found: Schemas["MergeInput"][] = [];
      const missing: string[] = [];
      for (const { name, weight } of tags) {
        const page = await client.fetchQuery(libraryPage({ q: name }, 0, 50));
        const row = page.items.find((one) => stem(one.name) === name) ?? page.items.find((one) => one.title === name);
        if (row) found.push({ adapter: row.id, weight });
        else missing.push(name);
      }
      onFound(found);
      if (missing.length)
        throw new Error(
          `not in the library: ${missing.join(", ")}${found.length ? `; the other ${found.length} are taken` : ""}`,
        );
    },
    meta: { failure: "Not every adapter was found", success: "Weights taken from the prompt" },
    onSettled: close,
  });
  return (
    <>
      <Button variant="default" onClick={open}>
        From a prompt
      </Button>
      <Modal opened={opened} onClose={close} title="Weights from a prompt">
        <Stack>
          <Textarea
            data-autofocus
            label="Prompt"
            description="Tags like <lora:style:0.7> are read out of it."
            autosize
            minRows={3}
            value={prompt}
            onChange={(event) => setPrompt(event.currentTarget.value)}
          />
          <Text size="sm" aria-live="polite">
            {tags.length ? tags.map(({ name, weight }) => `${name} × ${weight}`).join(", ") : "No tags so far."}
          </Text>
          <Button disabled={tags.length === 0} loading={find.isPending} onClick={() => find.mutate()}>
            Take them
          </Button>
        </Stack>
      </Modal>
    </>
  );
}

function stem(name: string): string {
  return name.replace(/\.[A-Za-z0-9]+$/, "");
}
