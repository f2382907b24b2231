import { SimpleGrid } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, printable } from "../../lib/format";
import type { LocalColumn } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { bytesColumn, LeftOut, layerColumn, PlanFigure, rankColumn } from "./PlanFigure";
import { Stat } from "./ResizeFigures";

interface Row {
  layer: string;
  kind: string;
  action: string;
  from: string[];
  rank: number | null;
  alpha: number | null;
  bytes: number;
}

const COLUMNS: LocalColumn<Row>[] = [
  layerColumn((row) => row.from.join(", ")),
  { id: "action", title: "What", width: 92, value: (row) => row.action, cell: (row) => row.action },
  rankColumn("rank", "Rank", (row) => row.rank),
  rankColumn("alpha", "Alpha", (row) => row.alpha),
  bytesColumn,
  {
    id: "from",
    title: "From",
    width: 220,
    grow: true,
    value: (row) => row.from.join(" "),
    cell: (row) => <span className="mono">{printable(row.from.join(", "))}</span>,
  },
];

interface ConvertPlanViewProps {
  plan: Schemas["ConvertPlan"] | undefined;
  error: unknown;
  isCurrent: boolean;
  isFetching: boolean;
}

/** Every layer under its new name, and what has none. */
export function ConvertPlanView({ plan, error, isCurrent, isFetching }: ConvertPlanViewProps) {
  if (error) return <ErrorState error={error} title="This cannot be converted" />;
  if (!plan) return isFetching ? <Waiting what="Making the plan" /> : null;
  const rows = plan.layers as unknown as Row[];
  const { missing } = plan;
  return (
    <PlanFigure
      subject={plan.output}
      help="Rename: the same factors under another name. Join and split: one weight of one program is several of another; the deltas stay what they are. What is measured after writing is the difference of all deltas."
      notes={plan.notes}
      rows={rows}
      columns={COLUMNS}
      isStale={!isCurrent || isFetching}
      table={() => ({
        columns: ["layer", "kind", "action", "from", "rank", "alpha", "bytes"],
        rows: rows.map((row) => [row.layer, row.kind, row.action, row.from.join(" "), row.rank, row.alpha, row.bytes]),
      })}
    >
      <SimpleGrid cols={{ base: 2, md: 4 }}>
        <Stat name="File" value={bytes(plan.size_after)}>
          now {bytes(plan.size_before)}
        </Stat>
        <Stat name="Layers" value={count(plan.layers_after)} testid="convert-layers">
          of {count(plan.layers_before)} in the file
        </Stat>
        <Stat name="Base model" value={plan.base_model}>
          whose modules give the names
        </Stat>
        <Stat name="Left out" value={count(missing.length)} testid="convert-missing">
          {missing.length ? "see below" : "everything can be written"}
        </Stat>
      </SimpleGrid>
      <LeftOut parts={missing} what="cannot be written so" />
    </PlanFigure>
  );
}
