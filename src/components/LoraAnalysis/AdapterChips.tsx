import { ActionIcon } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useQueries } from "@tanstack/react-query";
import { adapterRow } from "../../api/queries";
import { printable } from "../../lib/format";

export function AdapterChips({ ids, onRemove }: { ids: string[]; onRemove: (id: string) => void }) {
  const rows = useQueries({ queries: ids.map((id) => adapterRow(id)) });
  if (ids.length === 0) return null;
  return (
    <ul className="chips" aria-label="Chosen adapters" style={{ flexWrap: "wrap" }}>
      {ids.map((id, at) => {
        const name = rows[at]?.data
          ? printable(rows[at].data.name)
          : rows[at]?.isError
            ? `${id.slice(0, 8)} is gone`
            : "…";
        return (
          <li key={id} className="chip" style={{ maxWidth: 420 }}>
            <span className="breakable">{name}</span>
            <ActionIcon
              size="xs"
              variant="transparent"
              color="gray"
              aria-label={`Remove ${name}`}
              onClick={() => onRemove(id)}
            >
              <IconX size={14} aria-hidden />
            </ActionIcon>
          </li>
        );
      })}
    </ul>
  );
}
