import { SimpleGrid } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, printable } from "../../lib/format";
import type { LocalColumn } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { bytesColumn, LeftOut, layerColumn, PlanFigure, PlanNote } from "./PlanFigure";
import { Stat } from "./ResizeFigures";

interface Row {
  layer: string;
  dtype: string;
  shape: number[];
  bytes: number;
  added: string[];
}

const COLUMNS: LocalColumn<Row>[] = [
  { ...layerColumn<Row>((row) => row.added.join(", ")), title: "Tensor" },
  { id: "dtype", title: "Type", width: 80, value: (row) => row.dtype, cell: (row) => row.dtype },
  {
    id: "shape",
    title: "Shape",
    width: 130,
    value: (row) => row.shape.reduce((a, b) => a * b, 1),
    cell: (row) => row.shape.join(" × "),
  },
  bytesColumn,
  {
    id: "added",
    title: "What is added",
    width: 260,
    grow: true,
    value: (row) => row.added.join(" "),
    cell: (row) => <span className="mono">{printable(row.added.join(", "))}</span>,
  },
];

interface BakePlanViewProps {
  plan: Schemas["BakePlan"] | undefined;
  error: unknown;
  isCurrent: boolean;
  isFetching: boolean;
}

/** Every tensor that changes, and what of the adapters has no place in the checkpoint. */
export function BakePlanView({ plan, error, isCurrent, isFetching }: BakePlanViewProps) {
  if (error) return <ErrorState error={error} title="This cannot be baked" />;
  if (!plan) return isFetching ? <Waiting what="Making the plan" /> : null;
  const rows = plan.layers as unknown as Row[];
  const matched = plan.adapters as unknown as { layers: number; layers_matched: number }[];
  const sum = (name: "layers" | "layers_matched") => matched.reduce((total, one) => total + one[name], 0);
  return (
    <PlanFigure
      subject={plan.output}
      help="Each of these tensors is calculated in float64 and rounded once to its own type; all others keep their bytes. What the rounding cost is measured when it is written."
      notes={plan.notes}
      rows={rows}
      columns={COLUMNS}
      isStale={!isCurrent || isFetching}
      table={() => ({
        columns: ["tensor", "dtype", "shape", "bytes", "added"],
        rows: rows.map((row) => [row.layer, row.dtype, row.shape.join("x"), row.bytes, row.added.join(" ")]),
      })}
    >
      <SimpleGrid cols={{ base: 2, md: 4 }}>
        <Stat name="Checkpoint" value={bytes(plan.size_after)}>
          {bytes(plan.free)} are free where it is written
        </Stat>
        <Stat name="Tensors" value={count(plan.tensors_changed)} testid="bake-tensors">
          of {count(plan.tensors)} change
        </Stat>
        <Stat name="Layers" value={count(sum("layers_matched"))}>
          of {count(sum("layers"))} in the adapters have their weight there
        </Stat>
        <Stat name="Left out" value={count(plan.skipped.length)}>
          {plan.skipped.length ? "see below" : "everything is baked"}
        </Stat>
      </SimpleGrid>
      {plan.size_after > plan.free && (
        <PlanNote title="Too little space">The checkpoint does not fit on the disk of the output folder.</PlanNote>
      )}
      <LeftOut parts={plan.skipped} what="cannot be baked" />
    </PlanFigure>
  );
}
