import { Badge, Group, SegmentedControl, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { pca } from "../../api/queries";
import { CATEGORIES } from "../../lib/color";
import { count, number, percent, printable } from "../../lib/format";
import { ColumnChart } from "../ui/BarChart";
import { Caption, Figure } from "../ui/Figure";
import { Heatmap } from "../ui/Heatmap";
import { ScatterChart } from "../ui/ScatterChart";
import { ErrorState, Waiting } from "../ui/states";

type Pca = Schemas["Pca"];

/** Principal components, worked out by the server: of every stored factor, and of the layers' spectra. */
export function ComponentsView({ id, name }: { id: string; name: string }) {
  const [target, setTarget] = useState<"factors" | "delta">("factors");
  const found = useQuery(pca(id, target));
  return (
    <Stack>
      <Group gap="md">
        <SegmentedControl
          aria-label="What is decomposed"
          value={target}
          onChange={(next) => setTarget(next as typeof target)}
          data={[
            { value: "factors", label: "stored factors" },
            { value: "delta", label: "deltas" },
          ]}
        />
        {found.data && (
          <Group gap="xs">
            <Badge variant="light">{count(found.data.total_matrices)} matrices</Badge>
            <Badge variant="light" color="gray">
              {count(found.data.total_layers)} layers
            </Badge>
            {found.data.skipped.length > 0 && (
              <Badge variant="light" color="orange">
                {count(found.data.skipped.length)} skipped
              </Badge>
            )}
          </Group>
        )}
      </Group>
      {found.isPending && <Waiting what="Calculating principal components" />}
      {found.isError && (
        <ErrorState error={found.error} title="No components of this adapter" retry={() => void found.refetch()} />
      )}
      {found.data && (
        <>
          <VarianceHeatmap found={found.data} name={name} />
          <div className="halves">
            <LayerMap found={found.data} name={name} />
            <MeanVariance found={found.data} name={name} />
          </div>
        </>
      )}
    </Stack>
  );
}

/** Matrices by component: how much of each matrix' variance each of its components explains. */
function VarianceHeatmap({ found, name }: { found: Pca; name: string }) {
  const [measure, setMeasure] = useState<"each" | "sum">("sum");
  const rows = useMemo(() => Object.entries(found.pca_results), [found]);
  const columns = found.n_components;
  const raster = useMemo(
    () => ({
      rows: rows.length,
      columns,
      at: (row: number, column: number) => {
        const one = rows[row]?.[1];
        return (measure === "sum" ? one?.cumulative_variance : one?.explained_variance_ratio)?.[column] ?? Number.NaN;
      },
    }),
    [rows, columns, measure],
  );
  return (
    <Figure
      title="Explained variance by matrix"
      subject={name}
      help="Principal components of every matrix, centred by column as scikit-learn does. Colour: the share of the matrix' variance that a component explains, or that the first k explain together."
      table={() => ({
        columns: ["matrix", "samples", "component", "explained_variance_ratio", "cumulative", "singular_value"],
        rows: rows.flatMap(([matrix, one]) =>
          one.explained_variance_ratio.map((share, at) => [
            matrix,
            one.samples,
            at + 1,
            share,
            one.cumulative_variance[at]!,
            one.singular_values[at]!,
          ]),
        ),
      })}
      controls={
        <SegmentedControl
          size="xs"
          aria-label="What the colour means"
          value={measure}
          onChange={(next) => setMeasure(next as typeof measure)}
          data={[
            { value: "sum", label: "first k" },
            { value: "each", label: "each" },
          ]}
        />
      }
    >
      <Heatmap
        label={`Heatmap of ${rows.length} matrices by ${columns} components`}
        raster={raster}
        map="cividis"
        domain={[0, 1]}
        rowName={(row) => printable(rows[row]?.[0] ?? "")}
        columnName={(column) => `component ${column + 1}`}
        format={(value) => percent(value, 1)}
        x="component"
        height={Math.min(420, Math.max(180, rows.length * 2.4 + 60))}
        left={rows.length > 60 ? 40 : 190}
      />
      <Caption>One row per matrix, in the file's order; the read-out names it.</Caption>
    </Figure>
  );
}

/** Layers with alike decay lie close together. */
function LayerMap({ found, name }: { found: Pca; name: string }) {
  const { layer: chosen = [] } = useSearch({ from: "/spectrum" });
  const navigate = useNavigate({ from: "/spectrum" });
  const { points, explained_variance_ratio: shares } = found.map;
  const groups = useMemo(() => {
    const names = [...new Set(points.map((point) => point.component))];
    return new Map(names.map((group, at) => [group, CATEGORIES[at % CATEGORIES.length]!]));
  }, [points]);
  const drawn = useMemo(
    () => points.map((point) => ({ name: point.name, group: point.component, x: point.x[0] ?? 0, y: point.x[1] ?? 0 })),
    [points],
  );
  if (points.length < 2) return null;
  const neighbours = chosen.length === 1 ? nearest(points, chosen[0]!) : [];
  const pick = (layer: string) =>
    void navigate({
      search: (before) => ({
        ...before,
        layer: before.layer?.includes(layer) ? before.layer.filter((one) => one !== layer) : [layer],
      }),
      replace: true,
    });
  return (
    <Figure
      title="Map of layers"
      subject={name}
      help="Every layer's σ / σ₁ as a point, along the two directions in which these spectra differ most. Near points decay alike, whatever their norm."
      table={() => ({
        columns: ["layer", "component", "block", "kind", ...shares.map((_, at) => `pc${at + 1}`)],
        rows: points.map((point) => [point.name, point.component, point.block, point.kind, ...point.x]),
      })}
    >
      <ScatterChart
        label={`${points.length} layers; the first component explains ${percent(shares[0], 1)}, the second ${percent(shares[1] ?? 0, 1)}`}
        points={drawn}
        x={`component 1 (${percent(shares[0], 1)})`}
        y={`component 2 (${percent(shares[1] ?? 0, 1)})`}
        colors={groups}
        selected={new Set(chosen)}
        onPick={pick}
      />
      {neighbours.length > 0 ? (
        <Text size="xs" mt={6} className="breakable">
          <b>{printable(chosen[0]!)}</b> decays most like{" "}
          {neighbours.map(({ name: other, distance }) => `${printable(other)} (${number(distance)})`).join(", ")}
        </Text>
      ) : (
        <Caption>A click on a point chooses the layer and names its nearest neighbours.</Caption>
      )}
    </Figure>
  );
}

function nearest(points: Schemas["PointOfLayer"][], name: string): { name: string; distance: number }[] {
  const from = points.find((point) => point.name === name);
  if (!from) return [];
  return points
    .filter((point) => point.name !== name)
    .map((point) => ({ name: point.name, distance: Math.hypot(...point.x.map((value, at) => value - from.x[at]!)) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3);
}

function MeanVariance({ found, name }: { found: Pca; name: string }) {
  const results = Object.values(found.pca_results);
  const columns = Math.min(found.n_components, 32);
  const means = Array.from({ length: columns }, (_, at) =>
    mean(results.map((one) => one.explained_variance_ratio[at] ?? 0)),
  );
  const sums = Array.from({ length: columns }, (_, at) => mean(results.map((one) => one.cumulative_variance[at] ?? 1)));
  return (
    <Figure
      title="Mean explained variance"
      subject={name}
      help="Over all matrices: the mean share of each component, and of the first k together."
      table={() => ({
        columns: ["component", "mean_explained_variance_ratio", "mean_cumulative"],
        rows: means.map((value, at) => [at + 1, value, sums[at]!]),
      })}
    >
      <ColumnChart
        label={`Mean explained variance of the first ${columns} components; together ${percent(sums.at(-1), 1)}`}
        bars={means.map((value, at) => ({ name: String(at + 1), value }))}
        line={{ name: "cumulative", values: sums }}
        x="component"
        y="mean share"
        format={(value) => percent(value, 0)}
        height={320}
      />
    </Figure>
  );
}

function mean(values: number[]): number {
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
}
