import { Group, Stack, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { Schemas } from "../../api/client";
import { layers } from "../../api/queries";
import { toTsv } from "../../lib/export";
import { count, number, printable } from "../../lib/format";
import { Copy } from "../ui/Copy";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";
import { ErrorState, Waiting } from "../ui/states";

type Layer = Schemas["LayerInfo"];

const COLUMNS: LocalColumn<Layer>[] = [
  {
    id: "name",
    title: "Layer",
    width: 320,
    grow: true,
    value: (layer) => layer.name,
    cell: (layer) => <span className="mono">{printable(layer.name)}</span>,
  },
  {
    id: "component",
    title: "Component",
    width: 120,
    value: (layer) => layer.component,
    cell: (layer) => layer.component,
  },
  { id: "kind", title: "Kind", width: 84, value: (layer) => layer.kind, cell: (layer) => layer.kind },
  {
    id: "rank",
    title: "Rank",
    width: 66,
    right: true,
    value: (layer) => layer.rank,
    cell: (layer) => layer.rank ?? "–",
  },
  {
    id: "alpha",
    title: "Alpha",
    width: 76,
    right: true,
    value: (layer) => layer.alpha,
    cell: (layer) => number(layer.alpha, 4),
  },
  {
    id: "scale",
    title: "Scale",
    width: 76,
    right: true,
    value: (layer) => layer.scale,
    cell: (layer) => number(layer.scale, 4),
  },
  {
    id: "shape",
    title: "Delta",
    width: 130,
    right: true,
    value: (layer) => layer.shape?.reduce((a, b) => a * b, 1),
    cell: (layer) => layer.shape?.join(" × ") ?? "–",
  },
  {
    id: "dtype",
    title: "Type",
    width: 90,
    value: (layer) => layer.dtypes.join(),
    cell: (layer) => layer.dtypes.join(", "),
  },
  {
    id: "parameters",
    title: "Params",
    width: 92,
    right: true,
    value: (layer) => layer.parameters,
    cell: (layer) => count(layer.parameters),
  },
];

export function LayersTab({ id, subject }: { id: string; subject: string }) {
  const { find = "" } = useSearch({ from: "/inspect" });
  const navigate = useNavigate({ from: "/inspect" });
  const found = useQuery(layers(id));
  if (found.isPending) return <Waiting what="Listing layers" />;
  if (found.isError)
    return <ErrorState error={found.error} title="The layers cannot be listed" retry={() => void found.refetch()} />;
  const rows = found.data.layers.filter((layer) =>
    `${layer.name} ${layer.kind} ${layer.component}`.toLowerCase().includes(find.toLowerCase()),
  );
  const table = () =>
    toTsv({
      columns: ["layer", "component", "kind", "rank", "alpha", "scale", "shape", "parameters"],
      rows: rows.map((layer) => [
        layer.name,
        layer.component,
        layer.kind,
        layer.rank,
        layer.alpha,
        layer.scale,
        layer.shape?.join("x"),
        layer.parameters,
      ]),
    });
  return (
    <Stack>
      <Group align="flex-end">
        <TextInput
          label="Filter"
          placeholder="attn, to_q, unet"
          value={find}
          w={280}
          maw="100%"
          onChange={(event) =>
            void navigate({
              search: (before) => ({ ...before, find: event.currentTarget.value || undefined }),
              replace: true,
            })
          }
        />
        <Text size="sm" c="dimmed" pb={8} aria-live="polite">
          {count(rows.length)} of {count(found.data.layers.length)} layers
        </Text>
        <Group pb={6} gap={4}>
          <Copy value={table()} label={`Copy the layers of ${subject} as a table`} />
        </Group>
      </Group>
      <LocalTable
        label="Layers"
        columns={COLUMNS}
        rows={rows}
        rowKey={(layer) => layer.name}
        onOpen={(layer) => void navigate({ to: "/spectrum", search: { id, layer: [layer.name] } })}
        height="calc(100dvh - 330px)"
      />
      <Text size="xs" c="dimmed">
        A row opens the layer's spectrum. Delta is the shape of the change to the base weight; scale is what multiplies
        the factors' product.
      </Text>
    </Stack>
  );
}
