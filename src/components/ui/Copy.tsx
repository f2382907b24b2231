import { ActionIcon, CopyButton, Text, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";

export function Copy({ value, label }: { value: string; label: string }) {
  return (
    <CopyButton value={value}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : label}>
          <ActionIcon
            size="sm"
            variant="subtle"
            color={copied ? "teal" : "gray"}
            onClick={copy}
            aria-label={copied ? `${label}: copied` : label}
          >
            {copied ? <IconCheck size={15} aria-hidden /> : <IconCopy size={15} aria-hidden />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

/** The line that does the same in a terminal. */
export function Command({ command }: { command: string | null | undefined }) {
  if (!command) return null;
  return (
    <div>
      <Text size="xs" c="dimmed" mb={4}>
        Equivalent command
      </Text>
      <div className="command">
        <code>{command}</code>
        <Copy value={command} label="Copy the command" />
      </div>
    </div>
  );
}
