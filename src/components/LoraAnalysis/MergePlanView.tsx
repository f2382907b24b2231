import { Alert, Badge, Group, SimpleGrid, Stack, Text } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, number, percent, printable } from "../../lib/format";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";
import { Stat } from "./ResizeFigures";
import { distribution } from "./ResizePlanView";

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
  {
    id: "layer",
    title: "Layer",
    width: 300,
    grow: true,
    value: (row) => row.layer,
    cell: (row) => <span className="mono">{printable(row.layer)}</span>,
  },
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
  {
    id: "exact",
    title: "Exact rank",
    width: 92,
    right: true,
    value: (row) => row.exact_rank,
    cell: (row) => row.exact_rank ?? "–",
  },
  { id: "rank", title: "Rank", width: 66, right: true, value: (row) => row.rank, cell: (row) => row.rank ?? "–" },
  {
    id: "error",
    title: "Error",
    width: 90,
    right: true,
    value: (row) => row.relative_error,
    cell: (row) => percent(row.relative_error, 2),
  },
  { id: "bytes", title: "Bytes", width: 90, right: true, value: (row) => row.bytes, cell: (row) => bytes(row.bytes) },
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
    <Figure
      title="Plan"
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
      controls={
        !isCurrent || isFetching ? (
          <Badge variant="light" color="gray">
            being brought up to date
          </Badge>
        ) : undefined
      }
    >
      <Stack gap="sm">
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
        {plan.notes.map((note) => (
          <Alert key={note} variant="light" color="orange" p="xs">
            <Text size="sm" c="var(--mantine-color-text)">
              {printable(note)}
            </Text>
          </Alert>
        ))}
        {plan.dropped.length > 0 && (
          <Alert variant="light" color="orange" p="xs" title={`${count(plan.dropped.length)} layers are left out`}>
            <Text size="sm" className="breakable" c="var(--mantine-color-text)">
              {plan.dropped
                .slice(0, 5)
                .map((one) => printable(`${String(one.layer ?? one.name ?? "")}: ${String(one.reason ?? "")}`))
                .join("; ")}
            </Text>
          </Alert>
        )}
        <LocalTable label="Plan by layer" columns={COLUMNS} rows={rows} rowKey={(row) => row.layer} height={320} />
      </Stack>
    </Figure>
  );
}
