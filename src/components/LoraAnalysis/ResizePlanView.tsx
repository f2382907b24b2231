import { Alert, Badge, Group, Stack, Text } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { memo } from "react";
import type { Schemas } from "../../api/client";
import { bytes, count, percent, printable } from "../../lib/format";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";

type Row = Schemas["LayerPlanInfo"];

const COLUMNS: LocalColumn<Row>[] = [
  {
    id: "layer",
    title: "Layer",
    width: 300,
    grow: true,
    value: (row) => row.layer,
    cell: (row) => (
      <span className="mono" title={printable(row.reason ?? "")}>
        {printable(row.layer)}
      </span>
    ),
  },
  { id: "action", title: "What", width: 86, value: (row) => row.action, cell: (row) => row.action },
  { id: "old", title: "Was", width: 62, right: true, value: (row) => row.old_rank, cell: (row) => row.old_rank ?? "–" },
  {
    id: "new",
    title: "Rank",
    width: 62,
    right: true,
    value: (row) => row.new_rank,
    cell: (row) => row.new_rank ?? "–",
  },
  {
    id: "error",
    title: "Error",
    width: 86,
    right: true,
    value: (row) => row.relative_error,
    cell: (row) => percent(row.relative_error, 2),
  },
  { id: "bytes", title: "Bytes", width: 90, right: true, value: (row) => row.bytes, cell: (row) => bytes(row.bytes) },
  {
    id: "reason",
    title: "Why",
    width: 180,
    grow: true,
    value: (row) => row.reason,
    cell: (row) => printable(row.reason ?? ""),
  },
];

interface ResizePlanViewProps {
  plan: Schemas["ResizePlan"] | undefined;
  error: unknown;
  isCurrent: boolean;
  isFetching: boolean;
  id: string;
  name: string;
}

/** Every layer's fate, before anything is written; the layers that lose most come first. */
export const ResizePlanView = memo(function ResizePlanView({
  plan,
  error,
  isCurrent,
  isFetching,
  id,
  name,
}: ResizePlanViewProps) {
  const navigate = useNavigate();
  if (error) return <ErrorState error={error} title="This cannot be done" />;
  if (!plan) return isFetching ? <Waiting what="Making the plan" /> : null;
  return (
    <Figure
      title="Plan"
      subject={name}
      help="What the writer will do to every layer. Truncate: the closest matrix of the new rank. Keep: copied byte for byte."
      table={() => ({
        columns: ["layer", "kind", "action", "old_rank", "new_rank", "relative_error", "bytes", "reason"],
        rows: plan.layers.map((row) => [
          row.layer,
          row.kind,
          row.action,
          row.old_rank,
          row.new_rank,
          row.relative_error,
          row.bytes,
          row.reason,
        ]),
      })}
      controls={
        !isCurrent || isFetching ? (
          <Badge variant="light" color="gray" tt="none">
            being brought up to date
          </Badge>
        ) : undefined
      }
    >
      <Stack gap="sm">
        <Group gap="xs">
          <Badge variant="light" tt="none" data-testid="plan-changed">
            {count(plan.layers_changed)} of {count(plan.layers_total)} layers change
          </Badge>
          <Badge variant="light" color="gray" tt="none">
            ranks {distribution(plan.rank_distribution_before)} → {distribution(plan.rank_distribution)}
          </Badge>
          <Badge variant="light" color="gray" tt="none">
            {bytes(plan.size_before)} → {bytes(plan.size_after)}
          </Badge>
        </Group>
        {plan.notes.map((note) => (
          <Alert key={note} variant="light" color="orange" p="xs">
            <Text size="sm" c="var(--mantine-color-text)">
              {printable(note)}
            </Text>
          </Alert>
        ))}
        <LocalTable
          label="Plan by layer"
          columns={COLUMNS}
          rows={plan.layers}
          rowKey={(row) => row.layer}
          initial={{ id: "error", descending: true }}
          onOpen={(row) => void navigate({ to: "/spectrum", search: { id, layer: [row.layer] } })}
          height={360}
        />
      </Stack>
    </Figure>
  );
});

export function distribution(ranks: Record<string, number>): string {
  const found = Object.keys(ranks)
    .map(Number)
    .sort((a, b) => a - b);
  if (found.length === 0) return "–";
  return found.length === 1 ? String(found[0]) : `${found[0]}–${found.at(-1)}`;
}
