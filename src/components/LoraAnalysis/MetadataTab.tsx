import { Accordion, Group, Stack, Text, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";
import { printable } from "../../lib/format";
import { Copy } from "../ui/Copy";
import { Empty } from "../ui/states";

/** The header's metadata as it stands, searchable. Values are shown as text and as nothing else. */
export function MetadataTab({
  metadata,
  extra,
}: {
  metadata: Record<string, unknown>;
  extra?: Record<string, unknown> | null;
}) {
  const [words, setWords] = useState("");
  const entries = useMemo(
    () =>
      [
        ...Object.entries(metadata),
        ...Object.entries(extra ?? {}).map(([key, value]): [string, unknown] => [
          `adapter_config.json · ${key}`,
          value,
        ]),
      ].map(([key, value]) => ({
        key,
        text: typeof value === "string" ? value : JSON.stringify(value),
      })),
    [metadata, extra],
  );
  const lower = words.toLowerCase();
  const shown = entries.filter(
    ({ key, text }) => key.toLowerCase().includes(lower) || text.toLowerCase().includes(lower),
  );
  if (entries.length === 0) {
    return (
      <Empty title="No metadata">
        <Text size="sm">The file has an empty header. Its layers can be analysed all the same.</Text>
      </Empty>
    );
  }
  return (
    <Stack>
      <Group align="flex-end">
        <TextInput
          label="Find in keys and values"
          value={words}
          onChange={(event) => setWords(event.currentTarget.value)}
          w={300}
          maw="100%"
        />
        <Text size="sm" c="dimmed" pb={8} aria-live="polite">
          {shown.length} of {entries.length}
        </Text>
      </Group>
      <Accordion multiple variant="contained">
        {shown.slice(0, 400).map(({ key, text }) => (
          <Accordion.Item key={key} value={key}>
            <Accordion.Control>
              <Group wrap="nowrap" gap="md">
                <Text size="sm" fw={600} className="breakable" w={260} style={{ flexShrink: 0 }}>
                  {printable(key)}
                </Text>
                <Text size="sm" lineClamp={1} className="breakable">
                  {printable(text.slice(0, 240))}
                </Text>
              </Group>
            </Accordion.Control>
            <Accordion.Panel>
              <Group gap={4} mb={4}>
                <Copy value={text} label="Copy the value" />
                <Text size="xs" c="dimmed">
                  {text.length.toLocaleString("en-US")} characters
                </Text>
              </Group>
              <pre className="json">{printable(pretty(text).slice(0, 200_000))}</pre>
            </Accordion.Panel>
          </Accordion.Item>
        ))}
      </Accordion>
      {shown.length > 400 && <Text size="sm">{shown.length - 400} more; narrow the search.</Text>}
    </Stack>
  );
}

function pretty(text: string): string {
  if (!/^\s*[{[]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
