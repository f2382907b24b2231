import {
  Alert,
  Badge,
  Button,
  Checkbox,
  Group,
  Paper,
  SegmentedControl,
  SimpleGrid,
  Stack,
  Table,
  Text,
  Title,
} from "@mantine/core";
import { IconArrowsDiff } from "@tabler/icons-react";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { comparison, useAnalysis } from "../../api/queries";
import { useTray } from "../../app/Tray";
import { CATEGORIES } from "../../lib/color";
import type { ComparisonDocument, PairOfAdapters } from "../../lib/comparison";
import { count, number, percent, printable } from "../../lib/format";
import { shortComponent } from "../../lib/layers";
import { Caption, Figure } from "../ui/Figure";
import { GroupedBars } from "../ui/GroupedBars";
import { Heatmap } from "../ui/Heatmap";
import { ScatterChart } from "../ui/ScatterChart";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { AdapterChips } from "./AdapterChips";
import { AdapterPicker } from "./AdapterPicker";
import { PairBlocks } from "./PairBlocks";
import { Stat } from "./ResizeFigures";
import { SimilarityMatrix } from "./SimilarityMatrix";

/** Two to eight adapters beside each other: the same thing, a copy, or strangers? */
export default function Compare() {
  const { ids = [] } = useSearch({ from: "/compare" });
  const navigate = useNavigate({ from: "/compare" });
  const pinned = useTray();
  const set = (next: string[]) =>
    void navigate({
      search: (before) => ({ ...before, ids: next.length ? next : undefined, pair: undefined }),
      replace: true,
    });
  const found = useAnalysis(comparison(ids, ids.length >= 2));
  const data = found.data as unknown as ComparisonDocument | undefined;
  return (
    <Stack gap="md">
      <Group align="flex-end" gap="lg">
        <Title order={1} size="h3">
          Compare
        </Title>
        <div className="picker">
          <AdapterPicker
            label="Add an adapter"
            adding
            onChange={(row) => set([...new Set([...ids, row.id])].slice(0, 8))}
          />
        </div>
        {pinned.length >= 2 && (
          <Button variant="default" onClick={() => set(pinned.map(({ id }) => id))}>
            Take the {pinned.length} pinned
          </Button>
        )}
      </Group>
      <AdapterChips ids={ids} onRemove={(id) => set(ids.filter((one) => one !== id))} />
      {ids.length < 2 && (
        <Empty title="Choose at least two" icon={<IconArrowsDiff size={42} stroke={1.3} aria-hidden />}>
          <Text size="sm">
            Adapters of one base model, in any dialect: original and resized, epochs of one training, two characters.
          </Text>
        </Empty>
      )}
      {ids.length >= 2 && found.isLoading && (
        <Waiting what="Comparing" done={found.progress?.done} total={found.progress?.total} />
      )}
      {found.isError && (
        <ErrorState error={found.error} title="These cannot be compared" retry={() => void found.refetch()} />
      )}
      {data && ids.length >= 2 && <Comparing found={data} />}
    </Stack>
  );
}

function Comparing({ found }: { found: ComparisonDocument }) {
  const { pair: wanted } = useSearch({ from: "/compare" });
  const navigate = useNavigate({ from: "/compare" });
  const at = wanted !== undefined && wanted < found.pairs.length ? wanted : 0;
  const pair = found.pairs[at];
  return (
    <Stack>
      {found.notes.map((note) => (
        <Alert key={note} variant="light" color="orange" p="xs">
          <Text size="sm" c="var(--mantine-color-text)">
            {printable(note)}
          </Text>
        </Alert>
      ))}
      {found.pairs
        .flatMap((one) => one.lineage)
        .map((hint) => (
          <Alert key={hint.statement} variant="light" color="blue" title={printable(hint.statement)}>
            <Text size="sm" c="var(--mantine-color-text)">
              {hint.evidence.map(printable).join("; ")}
            </Text>
          </Alert>
        ))}
      {pair && <PairFigures pair={pair} found={found} />}
      <div className="halves">
        <SimilarityMatrix
          found={found}
          title="Similarity"
          pair={at}
          onPair={(next) => void navigate({ search: (before) => ({ ...before, pair: next }), replace: true })}
        />
        <PairBlocks found={found} pair={at} />
      </div>
      <BlockNorms found={found} />
      {pair && (
        <div className="halves">
          <LayerScatter found={found} pair={pair} />
          <Overlap found={found} pair={pair} />
        </div>
      )}
      <Differences found={found} />
      {found.skipped.length > 0 && (
        <Text size="sm" c="dimmed">
          {count(found.skipped.length)} layers have no part in this, e.g. {printable(found.skipped[0]!.name)}:{" "}
          {printable(found.skipped[0]!.reason)}
        </Text>
      )}
    </Stack>
  );
}

function PairFigures({ pair, found }: { pair: PairOfAdapters; found: ComparisonDocument }) {
  const [first, second] = [found.adapters[pair.first]!, found.adapters[pair.second]!];
  return (
    <Paper withBorder p="md" component="section" aria-label="The chosen pair">
      <Group gap="xs" mb="sm">
        <Badge variant="light">{printable(first.name)}</Badge>
        <Text size="sm">against</Text>
        <Badge variant="light">{printable(second.name)}</Badge>
        <Text size="sm" c="dimmed">
          {count(pair.layers_compared)} layers in common, {count(pair.only_first.length)} only in the first,{" "}
          {count(pair.only_second.length)} only in the second
        </Text>
      </Group>
      <SimpleGrid cols={{ base: 2, md: 5 }}>
        <Stat name="Cosine" value={number(pair.cosine, 3)} testid="pair-cosine">
          chance ± {number(pair.chance_cosine)}
        </Stat>
        <Stat name="Relative difference" value={percent(pair.relative_difference, 2)} testid="pair-difference">
          ‖Δ₂ − Δ₁‖ / ‖Δ₁‖
        </Stat>
        <Stat name="Norm ratio" value={number(pair.norm_ratio, 3)}>
          ‖Δ₂‖ / ‖Δ₁‖
        </Stat>
        <Stat name="Second within first" value={percent(pair.second_within_first, 1)}>
          of its energy; chance {percent(pair.chance_within_first, 2)}
        </Stat>
        <Stat name="First within second" value={percent(pair.first_within_second, 1)}>
          of its energy; chance {percent(pair.chance_within_second, 2)}
        </Stat>
      </SimpleGrid>
    </Paper>
  );
}

function BlockNorms({ found }: { found: ComparisonDocument }) {
  const names = found.adapters.map(({ name }) => printable(name.replace(/\.safetensors$/, "")));
  const groups = found.blocks.map((part) => ({
    name: `${shortComponent(part.component)} ${part.block ?? ""}`.trim(),
    values: part.norms,
  }));
  return (
    <Figure
      title="Norms by block"
      subject={names[0] ?? "adapters"}
      help="‖Δ‖ of every adapter in every block: where each of them changes the model, and how much."
      table={() => ({ columns: ["block", ...names], rows: groups.map((group) => [group.name, ...group.values]) })}
    >
      <GroupedBars
        label={`Norms of ${names.length} adapters in ${groups.length} blocks`}
        groups={groups}
        series={names}
        y="‖Δ‖"
      />
    </Figure>
  );
}

function LayerScatter({ found, pair }: { found: ComparisonDocument; pair: PairOfAdapters }) {
  const points = useMemo(
    () =>
      found.layers
        .filter((layer) => layer.names[pair.first] && layer.names[pair.second])
        .map((layer) => ({
          name: layer.name,
          group: layer.component,
          x: layer.norms[pair.first]!,
          y: layer.norms[pair.second]!,
        })),
    [found, pair],
  );
  const colors = useMemo(
    () =>
      new Map(
        [...new Set(points.map(({ group }) => group))].map((group, at) => [group, CATEGORIES[at % CATEGORIES.length]!]),
      ),
    [points],
  );
  if (points.length === 0) return null;
  return (
    <Figure
      title="Norms by layer"
      subject={found.adapters[pair.first]!.name}
      help="Each common layer: its norm in one adapter against its norm in the other. On the line both are equally strong."
      table={() => ({
        columns: ["layer", "component", "first", "second"],
        rows: points.map((point) => [point.name, point.group, point.x, point.y]),
      })}
    >
      <ScatterChart
        label={`Norms of ${points.length} common layers`}
        points={points.filter(({ x, y }) => x > 0 && y > 0)}
        x="‖Δ₁‖"
        y="‖Δ₂‖"
        colors={colors}
        log
        diagonal
      />
    </Figure>
  );
}

function Overlap({ found, pair }: { found: ComparisonDocument; pair: PairOfAdapters }) {
  const [side, setSide] = useState<"left" | "right">("left");
  const grid = pair[side];
  const raster = useMemo(
    () => ({
      rows: grid?.rows.length ?? 0,
      columns: grid?.columns.length ?? 0,
      at: (row: number, column: number) => grid?.overlap[row]?.[column] ?? Number.NaN,
    }),
    [grid],
  );
  if (!grid) return null;
  return (
    <Figure
      title="Subspace overlap"
      subject={found.adapters[pair.first]!.name}
      help="φ(i, j): how much of the span of the i leading directions of the first lies within the j leading ones of the second (Hu et al. 2021), averaged over layers. Written: what the layers change; read: what they look at."
      table={() => ({
        columns: ["i", "j", "overlap", "chance"],
        rows: grid.rows.flatMap((i, row) =>
          grid.columns.map((j, column) => [i, j, grid.overlap[row]![column], grid.chance[row]![column]]),
        ),
      })}
      controls={
        <SegmentedControl
          size="xs"
          aria-label="Which side"
          value={side}
          onChange={(next) => setSide(next as typeof side)}
          data={[
            { value: "left", label: "written" },
            { value: "right", label: "read" },
          ]}
        />
      }
    >
      <Heatmap
        label={`Overlap of the leading directions, ${grid.rows.length} by ${grid.columns.length}`}
        raster={raster}
        map="viridis"
        domain={[0, 1]}
        rowName={(row) => `i = ${grid.rows[row]}`}
        columnName={(column) => `${grid.columns[column]}`}
        format={(value) => number(value, 3)}
        x="j"
        numbered={false}
        height={300}
        left={70}
      />
      <Caption>Chance at the last cell: {number(grid.chance.at(-1)?.at(-1) ?? null)}.</Caption>
    </Figure>
  );
}

function Differences({ found }: { found: ComparisonDocument }) {
  const [words, setWords] = useState(false);
  const rows = words ? found.differences : found.differences.slice(0, 30);
  return (
    <Figure
      title="Differing metadata"
      subject={found.adapters[0]?.name ?? "adapters"}
      help="What headers, configurations and structures say differently. What they agree on is left out."
      table={() => ({
        columns: ["field", ...found.adapters.map(({ name }) => name)],
        rows: found.differences.map(({ field, values }) => [field, ...values.map(textOf)]),
      })}
    >
      {found.differences.length === 0 ? (
        <Text size="sm">They say the same.</Text>
      ) : (
        <Table.ScrollContainer
          minWidth={600}
          type="native"
          scrollAreaProps={undefined}
          tabIndex={0}
          role="region"
          aria-label="Differing metadata, by adapter"
        >
          <Table striped fz="sm" layout="fixed">
            <Table.Thead>
              <Table.Tr>
                <Table.Th w={230}>Field</Table.Th>
                {found.adapters.map((adapter) => (
                  <Table.Th key={adapter.id} className="breakable">
                    {printable(adapter.name)}
                  </Table.Th>
                ))}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {rows.map(({ field, values }) => (
                <Table.Tr key={field}>
                  <Table.Td className="mono breakable">{printable(field)}</Table.Td>
                  {values.map((value, at) => (
                    <Table.Td key={at} className="breakable">
                      {printable(textOf(value).slice(0, 240))}
                    </Table.Td>
                  ))}
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
      {found.differences.length > 30 && (
        <Checkbox
          mt="sm"
          size="sm"
          label={`All ${found.differences.length}`}
          checked={words}
          onChange={(event) => setWords(event.currentTarget.checked)}
        />
      )}
    </Figure>
  );
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
