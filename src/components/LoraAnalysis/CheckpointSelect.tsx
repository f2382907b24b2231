import { Select, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { AdapterRow } from "../../api/client";
import { checkpoints } from "../../api/queries";
import { bytes, printable } from "../../lib/format";

interface CheckpointSelectProps {
  label: string;
  description?: string;
  value: string | undefined;
  onChange: (id: string | undefined) => void;
  /** Whether one has to be chosen; else it can be taken back. */
  required?: boolean;
}

/** Chooses base weights among those that lie in the served folders. */
export function CheckpointSelect({ label, description, value, onChange, required = false }: CheckpointSelectProps) {
  const found = useQuery(checkpoints);
  // As they read, so that a pipeline comes before its components.
  const rows = [...(found.data ?? [])].sort((a, b) => placeOf(a).localeCompare(placeOf(b)));
  const isUnknown = Boolean(value) && found.isSuccess && !rows.some(({ id }) => id === value);
  return (
    <Select
      label={label}
      description={description}
      placeholder={found.isSuccess && rows.length === 0 ? "no checkpoint in the served folders" : "Choose a checkpoint"}
      data={rows.map((row) => ({ value: row.id, label: placeOf(row) }))}
      renderOption={({ option }) => <Choice row={rows.find(({ id }) => id === option.value)} />}
      value={value ?? null}
      onChange={(next) => onChange(next ?? undefined)}
      error={isUnknown ? "This checkpoint is not in the served folders any more" : undefined}
      searchable
      clearable={!required}
      allowDeselect={false}
      nothingFoundMessage="Nothing of that name"
      clearButtonProps={{ "aria-label": `No ${label.toLowerCase()}` }}
    />
  );
}

/** Many are called `diffusion_pytorch_model.safetensors`: the folder tells them apart. */
function placeOf(row: AdapterRow): string {
  return printable(row.folder ? `${row.folder}/${row.name}` : row.name);
}

function Choice({ row }: { row: AdapterRow | undefined }) {
  if (!row) return null;
  return (
    <div>
      <Text size="sm" className="breakable">
        {placeOf(row)}
      </Text>
      <Text size="xs" c="dimmed">
        {[row.base_model_label, row.dtype, bytes(row.size_bytes)].filter(Boolean).join(" · ")}
      </Text>
    </div>
  );
}
