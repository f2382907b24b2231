import { Badge, Group, SimpleGrid } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, number, percent, printable } from "../../lib/format";
import type { LocalColumn } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { bytesColumn, distribution, errorColumn, layerColumn, PlanFigure, PlanNote, rankColumn } from "./PlanFigure";
import { Stat } from "./ResizeFigures";

interface Row {
  layer: string;
  kinds: string[];
  inputs: number[];
  interference: number | null;
  exact_rank: number | null;
  rank: number | null;
  relative_error: number | null;
  bytes: number;
}

interface Input {
  path: string;
  weight: number;
  requested_weight: number;
  base_model: string | null;
  layers: number;
  layers_merged: number;
  layers_alone: number;
}

const COLUMNS: LocalColumn<Row>[] = [
  layerColumn(),
  {
    id: "inputs",
    title: "From",
    width: 100,
    value: (row) => row.inputs.length,
    cell: (row) => row.inputs.map((at) => at + 1).join(", "),
  },
  {
    id: "meet",
    title: "Interference",
    width: 110,
    right: true,
    value: (row) => row.interference,
    cell: (row) => number(row.interference, 3),
  },
  rankColumn("exact", "Exact rank", (row) => row.exact_rank),
  rankColumn("rank", "Rank", (row) => row.rank),
  errorColumn,
  bytesColumn,
];

export function MergePlanView({
  plan,
  error,
  isFetching,
  isCurrent,
}: {
  plan: Schemas["MergePlan"] | undefined;
  error: unknown;
  isFetching: boolean;
  isCurrent: boolean;
}) {
  if (error) return <ErrorState error={error} title="This cannot be merged" />;
  if (!plan) return isFetching ? <Waiting what="Making the plan" /> : null;
  const rows = plan.layers as unknown as Row[];
  const inputs = plan.inputs as unknown as Input[];
  const meet = plan.interference as {
    cosine: number | null;
    layers: { reinforce: number; independent: number; cancel: number };
  } | null;
  return (
    <PlanFigure
      subject={plan.output}
      help="What the merge will make of every layer. Interference is the energy of the sum over the sum of energies: 1 where the inputs are independent, below where they cancel."
      table={() => ({
        columns: ["layer", "inputs", "interference", "exact_rank", "rank", "relative_error", "bytes"],
        rows: rows.map((row) => [
          row.layer,
          row.inputs.map((at) => at + 1).join(" "),
          row.interference,
          row.exact_rank,
          row.rank,
          row.relative_error,
          row.bytes,
        ]),
      })}
      notes={plan.notes}
      rows={rows}
      columns={COLUMNS}
      isStale={!isCurrent || isFetching}
    >
      <SimpleGrid cols={{ base: 2, md: 4 }}>
        <Stat name="File" value={bytes(plan.size_after)} testid="merge-size">
          inputs together {bytes(plan.size_before)}
        </Stat>
        <Stat name="Layers" value={count(plan.layers_total)}>
          {inputs.map((one) => `${count(one.layers_merged)} of ${count(one.layers)}`).join(" + ")}
        </Stat>
        <Stat name="Ranks" value={distribution(plan.rank_distribution)}>
          {plan.relative_error === 0 ? "exact" : "after truncation"}
        </Stat>
        <Stat
          name="Error of the sum"
          value={plan.relative_error === null ? "–" : percent(plan.relative_error, 2)}
          testid="merge-error"
        >
          {meet ? `${meet.layers.reinforce} layers reinforce, ${meet.layers.cancel} cancel` : "relative to its norm"}
        </Stat>
      </SimpleGrid>
      <Group gap="xs">
        {inputs.map((one, at) => (
          <Badge key={at} variant="light" color="gray">
            {at + 1}: × {number(one.weight, 4)} · {printable(one.path)} · {count(one.layers_alone)} layers alone
          </Badge>
        ))}
      </Group>
      {plan.dropped.length > 0 && (
        <PlanNote title={`${count(plan.dropped.length)} layers are left out`}>
          {plan.dropped
            .slice(0, 5)
            .map((one) => printable(`${String(one.layer ?? one.name ?? "")}: ${String(one.reason ?? "")}`))
            .join("; ")}
        </PlanNote>
      )}
    </PlanFigure>
  );
}
