import { Alert, Group, Stack, Text } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { Schemas } from "../../api/client";
import { baseSpectrum, useAnalysis } from "../../api/queries";
import { count, number, percent, printable } from "../../lib/format";
import { Command } from "../ui/Copy";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { CheckpointSelect } from "./CheckpointSelect";

type Row = Schemas["BesideBase"];

const share = (value: number | null) => (value === null ? "–" : percent(value, 2));
const beside = (value: number | null, chance: number | null, text: (value: number | null) => string) =>
  value === null ? "–" : `${text(value)} (${text(chance)})`;

/** A number of every layer, right-aligned. */
function figure(id: keyof Row, title: string, width: number, cell: (row: Row) => string): LocalColumn<Row> {
  return { id, title, width, right: true, value: (row) => row[id] as number | null, cell };
}

const COLUMNS: LocalColumn<Row>[] = [
  {
    id: "layer",
    title: "Layer",
    width: 280,
    grow: true,
    value: labelOf,
    cell: (row) => <span className="mono">{printable(labelOf(row))}</span>,
  },
  figure("base_norm", "‖W‖", 84, (row) => number(row.base_norm)),
  figure("relative_norm", "‖Δ‖ / ‖W‖", 104, (row) => share(row.relative_norm)),
  figure("amplification", "Amplification", 156, (row) => beside(row.amplification, row.chance_amplification, number)),
  figure("alignment_left", "φ out", 158, (row) => beside(row.alignment_left, row.chance_left, number)),
  figure("alignment_right", "φ in", 158, (row) => beside(row.alignment_right, row.chance_right, number)),
  figure("intruders", "Intruders", 100, (row) =>
    row.intruders === null ? "–" : `${row.is_exact ? "" : "≤ "}${row.intruders} of ${row.top}`,
  ),
];

function labelOf(row: Row): string {
  return row.expert === null ? row.name : `${row.name}[${row.expert}]`;
}

/** Every delta beside the weight it is added to: how large, what it amplifies, which new directions it brings. */
export function BaseTab({ id, name }: { id: string; name: string }) {
  const { base } = useSearch({ from: "/spectrum" });
  const navigate = useNavigate({ from: "/spectrum" });
  const found = useAnalysis(baseSpectrum(id, base ?? ""));
  const data = found.data as Schemas["BaseSpectrum"] | undefined;
  return (
    <Stack>
      <div style={{ maxWidth: 520 }}>
        <CheckpointSelect
          label="Base checkpoint"
          description="Of the served folders: the one this adapter was trained on. Every weight of it is read."
          value={base}
          onChange={(next) => void navigate({ search: (before) => ({ ...before, base: next }), replace: true })}
        />
      </div>
      {base && found.isLoading && (
        <Waiting
          what="Laying every delta beside its weight"
          done={found.progress?.done}
          total={found.progress?.total ?? undefined}
        />
      )}
      {base && found.isError && <ErrorState error={found.error} title="This is not laid beside that checkpoint" />}
      {base && data && (
        <>
          <Figure
            title="Beside the base"
            subject={name}
            help="Relative norm: how large the delta is beside its weight. Amplification: how much it enlarges what the weight already does in its directions. φ: how much of the leading directions both share, 0 to 1. In brackets: what chance would give. Intruders: new leading directions of W + Δ that W has not."
            table={() => ({ columns: Object.keys(data.layers[0] ?? {}), rows: data.layers.map(valuesOf) })}
          >
            <LocalTable
              label="Layers beside the base"
              columns={COLUMNS}
              rows={data.layers}
              rowKey={labelOf}
              height={480}
              initial={{ id: "relative_norm", descending: true }}
            />
          </Figure>
          {data.without.length > 0 && (
            <Alert variant="light" color="orange" p="xs" title={`${count(data.without.length)} layers have no figures`}>
              <Text size="sm" className="breakable" c="var(--mantine-color-text)">
                {reasonsOf(data.without)}
              </Text>
            </Alert>
          )}
          <Group>
            <Command command={data.command} />
          </Group>
        </>
      )}
    </Stack>
  );
}

function valuesOf(row: Row): (string | number | null)[] {
  return Object.values(row).map((value) => (typeof value === "boolean" ? Number(value) : value));
}

/** Each reason once, with how many layers have it. */
function reasonsOf(without: Record<string, unknown>[]): string {
  const counts = new Map<string, number>();
  for (const { reason } of without) counts.set(String(reason), (counts.get(String(reason)) ?? 0) + 1);
  return [...counts].map(([reason, layers]) => `${count(layers)}: ${printable(reason)}`).join("; ");
}
