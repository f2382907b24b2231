import { Button, Group, NumberInput, SegmentedControl, Stack, Text, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";
import { count, printable } from "../../lib/format";
import { mergeTags, tagFrequency } from "../../lib/header";
import { BarList } from "../ui/BarChart";
import { Copy } from "../ui/Copy";
import { Figure } from "../ui/Figure";
import { Empty } from "../ui/states";

interface TagsTabProps {
  subject: string;
  metadata: Record<string, string>;
  /** What another trainer stated in another form, as the server read it. */
  frequencies?: Record<string, number> | null;
}

/** The captions' tags by frequency, whole or per folder of the dataset. */
export function TagsTab({ subject, metadata, frequencies }: TagsTabProps) {
  const folders = useMemo(() => tagFrequency(metadata.ss_tag_frequency), [metadata]);
  const [folder, setFolder] = useState("all");
  const [words, setWords] = useState("");
  const [most, setMost] = useState(20);
  const every = useMemo(() => {
    if (folder !== "all") return folders.get(folder) ?? [];
    const merged = mergeTags(folders);
    return merged.length ? merged : Object.entries(frequencies ?? {}).sort((a, b) => b[1] - a[1]);
  }, [folder, folders, frequencies]);
  const shown = every.filter(([tag]) => tag.toLowerCase().includes(words.toLowerCase()));
  if (every.length === 0) {
    return (
      <Empty title="No tags">
        <Text size="sm">The header states no tag frequencies. Not every trainer writes them.</Text>
      </Empty>
    );
  }
  return (
    <Stack>
      <Group align="flex-end">
        <TextInput
          label="Filter"
          value={words}
          onChange={(event) => setWords(event.currentTarget.value)}
          w={220}
          maw="100%"
        />
        {folders.size > 1 && (
          <SegmentedControl
            aria-label="Folder of the dataset"
            value={folder}
            onChange={setFolder}
            data={[
              { value: "all", label: "All folders" },
              ...[...folders.keys()].map((name) => ({ value: name, label: printable(name) })),
            ]}
          />
        )}
        <NumberInput
          label="Top"
          value={most}
          min={1}
          max={1000}
          w={90}
          onChange={(value) => setMost(Number(value) || 20)}
        />
        <Group gap={4} pb={6}>
          <Text size="sm">Copy the top {most} as a list</Text>
          <Copy
            value={shown
              .slice(0, most)
              .map(([tag]) => tag)
              .join(", ")}
            label="Copy tags"
          />
        </Group>
        <Button variant="default" onClick={() => setWords("")} disabled={!words}>
          Clear
        </Button>
      </Group>
      <Figure
        title="Tags"
        subject={subject}
        help="How often each tag occurs in the captions of the training images, as the trainer counted."
        table={() => ({ columns: ["tag", "count"], rows: shown.map(([tag, n]) => [tag, n]) })}
      >
        <BarList bars={shown.map(([tag, value]) => ({ name: printable(tag), value }))} format={count} />
      </Figure>
    </Stack>
  );
}
