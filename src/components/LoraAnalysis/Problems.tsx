import { Badge, Group } from "@mantine/core";
import type { AdapterRow } from "../../api/client";
import { printable } from "../../lib/format";

/** Health in words and colour: never in colour alone. */
export function Problems({ row }: { row: AdapterRow }) {
  if (row.error) {
    return (
      <Badge color="red" variant="light" size="sm" title={printable(row.error.message)}>
        unreadable
      </Badge>
    );
  }
  return (
    <Group gap={4} wrap="nowrap">
      {row.errors > 0 && (
        <Badge color="red" variant="light" size="sm">
          {row.errors} error{row.errors === 1 ? "" : "s"}
        </Badge>
      )}
      {row.errors === 0 && row.warnings > 0 && (
        <Badge color="orange" variant="light" size="sm">
          {row.warnings} note{row.warnings === 1 ? "" : "s"}
        </Badge>
      )}
      {row.duplicates > 0 && (
        <Badge color="gray" variant="light" size="sm" title="Another file states the same hash of its weights">
          copy
        </Badge>
      )}
      {row.errors === 0 && row.warnings === 0 && row.duplicates === 0 && (
        <span style={{ color: "var(--mantine-color-dimmed)" }}>fine</span>
      )}
    </Group>
  );
}
