import { Badge, Group } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { memo } from "react";
import type { Schemas } from "../../api/client";
import { bytes, count, printable } from "../../lib/format";
import type { LocalColumn } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { bytesColumn, distribution, errorColumn, layerColumn, PlanFigure, rankColumn } from "./PlanFigure";

type Row = Schemas["LayerPlanInfo"];

const COLUMNS: LocalColumn<Row>[] = [
  layerColumn((row) => row.reason),
  { id: "action", title: "What", width: 86, value: (row) => row.action, cell: (row) => row.action },
  rankColumn("old", "Was", (row) => row.old_rank),
  rankColumn("new", "Rank", (row) => row.new_rank),
  errorColumn,
  bytesColumn,
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
    <PlanFigure
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
      notes={plan.notes}
      rows={plan.layers}
      columns={COLUMNS}
      isStale={!isCurrent || isFetching}
      options={{
        initial: { id: "error", descending: true },
        onOpen: (row) => void navigate({ to: "/spectrum", search: { id, layer: [row.layer] } }),
      }}
    >
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
    </PlanFigure>
  );
});
