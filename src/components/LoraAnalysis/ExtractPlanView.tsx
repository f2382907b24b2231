import { SimpleGrid } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, printable } from "../../lib/format";
import type { LocalColumn } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { LeftOut, layerColumn, PlanFigure, rankColumn } from "./PlanFigure";
import { Stat } from "./ResizeFigures";

interface Row {
  layer: string;
  from: string[];
  shape: number[];
  max_rank: number | null;
}

const COLUMNS: LocalColumn<Row>[] = [
  layerColumn((row) => row.from.join(", ")),
  {
    id: "shape",
    title: "Shape",
    width: 130,
    value: (row) => row.shape.reduce((a, b) => a * b, 1),
    cell: (row) => row.shape.join(" × "),
  },
  rankColumn("rank", "Rank at most", (row) => row.max_rank),
  {
    id: "from",
    title: "Difference of",
    width: 260,
    grow: true,
    value: (row) => row.from.join(" "),
    cell: (row) => <span className="mono">{printable(row.from.join(", "))}</span>,
  },
];

interface ExtractPlanViewProps {
  plan: Schemas["ExtractPlan"] | undefined;
  error: unknown;
  isCurrent: boolean;
  isFetching: boolean;
}

/** Which weights are compared, under which names their differences would be written, and what is left out. */
export function ExtractPlanView({ plan, error, isCurrent, isFetching }: ExtractPlanViewProps) {
  if (error) return <ErrorState error={error} title="Nothing can be extracted so" />;
  if (!plan) return isFetching ? <Waiting what="Making the plan" /> : null;
  const rows = plan.layers as unknown as Row[];
  return (
    <PlanFigure
      subject={plan.output}
      help="From the headers of both checkpoints; no value has been read. Weights that turn out equal are left out, which makes the file smaller. The error is measured when it is written."
      notes={plan.notes}
      rows={rows}
      columns={COLUMNS}
      isStale={!isCurrent || isFetching}
      table={() => ({
        columns: ["layer", "shape", "max_rank", "from"],
        rows: rows.map((row) => [row.layer, row.shape.join("x"), row.max_rank, row.from.join(" ")]),
      })}
    >
      <SimpleGrid cols={{ base: 2, md: 4 }}>
        <Stat name="File, at most" value={bytes(plan.size_after)}>
          {plan.size_least === plan.size_after ? "where every weight differs" : `${bytes(plan.size_least)} at least`}
        </Stat>
        <Stat name="Layers, at most" value={count(plan.layers_compared)} testid="extract-layers">
          weights that both checkpoints hold
        </Stat>
        <Stat name="Base model" value={plan.base_model}>
          whose modules give the names
        </Stat>
        <Stat name="Left out" value={count(plan.skipped.length)}>
          {plan.skipped.length ? "see below" : "every tensor is compared"}
        </Stat>
      </SimpleGrid>
      <LeftOut parts={plan.skipped} what="are not compared" />
    </PlanFigure>
  );
}
