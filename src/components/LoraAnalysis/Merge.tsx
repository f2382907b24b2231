import { Alert, Badge, Button, Checkbox, Group, NumberInput, Paper, Select, Stack, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconGitMerge } from "@tabler/icons-react";
import { useQueries, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { ApiError } from "../../api/errors";
import { adapterRow, comparison, mergeMethods, mergePlan, useAnalysis } from "../../api/queries";
import { useTray } from "../../app/Tray";
import type { ComparisonDocument } from "../../lib/comparison";
import { printable } from "../../lib/format";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { CheckpointSelect } from "./CheckpointSelect";
import { MergeInputs } from "./MergeInputs";
import { MergePlanView } from "./MergePlanView";
import { PairBlocks } from "./PairBlocks";
import { PasteTags } from "./PasteTags";
import { DTYPES } from "./resizeOptions";
import { Screen } from "./Screen";
import { SimilarityMatrix } from "./SimilarityMatrix";
import { useWeighted } from "./useWeighted";
import { WriteForm } from "./WriteForm";

/** Adds adapters: the delta of the result is the weighted sum of the deltas, or what the chosen method makes of them. */
export default function Merge() {
  const pinned = useTray();
  const { inputs, set, add } = useWeighted();
  const ids = inputs.map((one) => one.adapter);
  return (
    <Screen
      title="Merge"
      head={
        <>
          <div className="picker">
            <AdapterPicker label="Add an adapter" adding onChange={(row) => add(row.id)} />
          </div>
          <PasteTags onFound={(found) => set([...inputs, ...found.filter((one) => !ids.includes(one.adapter))])} />
          {pinned.length >= 2 && (
            <Button variant="default" onClick={() => set(pinned.map(({ id }) => ({ adapter: id, weight: 1 })))}>
              Take the {pinned.length} pinned
            </Button>
          )}
        </>
      }
    >
      {ids.length < 2 ? (
        <>
          {ids.length === 1 && <MergeInputs inputs={inputs} onChange={set} />}
          <Empty title="Choose at least two" icon={<IconGitMerge size={42} stroke={1.3} aria-hidden />}>
            <Text size="sm">
              A weight multiplies an adapter's whole delta, once, and may be negative. What the sum will be is shown
              before it is written.
            </Text>
          </Empty>
        </>
      ) : (
        <Merging inputs={inputs} setInputs={set} />
      )}
    </Screen>
  );
}

type Normalize = "auto" | "no" | "yes";

const NORMALIZE = [
  { value: "auto", label: "as usual for the method" },
  { value: "no", label: "as they are: 1 is full strength" },
  { value: "yes", label: "divided by their sum" },
];

/** A plain sum takes weights as they are: 0.7 means 0.7 of that delta. Other methods know best what they need. */
function normalizing(choice: Normalize, method: string | undefined): { normalize?: boolean } {
  if (choice !== "auto") return { normalize: choice === "yes" };
  return method === undefined || ["weighted_sum", "concat", "svd"].includes(method) ? { normalize: false } : {};
}

function Merging({
  inputs,
  setInputs,
}: {
  inputs: Schemas["MergeInput"][];
  setInputs: (next: Schemas["MergeInput"][]) => void;
}) {
  const search = useSearch({ from: "/merge" });
  const navigate = useNavigate({ from: "/merge" });
  const methods = useQuery(mergeMethods);
  const method = methods.data?.find(({ name }) => name === search.method) ?? methods.data?.[0];
  const [numbers, setNumbers] = useState<Record<string, unknown>>({});
  const [normalize, setNormalize] = useState<Normalize>("auto");
  const [disjoint, setDisjoint] = useState(false);
  const [pair, setPair] = useState(0);
  const change = (next: Partial<typeof search>) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });

  const options = useMemo(() => {
    const own = Object.fromEntries(
      Object.entries(numbers).filter(
        ([name, value]) => name in (method?.parameters ?? {}) && value !== "" && value !== null,
      ),
    );
    return {
      ...own,
      method: method?.name ?? "weighted_sum",
      ...(search.rank ? { rank: search.rank } : {}),
      ...normalizing(normalize, method?.name),
      dtype: search.dtype ?? "keep",
      ...(disjoint ? { allow_disjoint: true } : {}),
    } as unknown as Schemas["MergeOptions"];
  }, [method, numbers, normalize, disjoint, search.rank, search.dtype]);
  const active = useMemo(() => inputs.filter((one) => one.weight !== 0), [inputs]);
  const [asked] = useDebouncedValue({ active, options }, 400);
  const isFitting = active.length >= 1 && (method?.most_inputs == null || active.length <= method.most_inputs);
  const rows = useQueries({ queries: active.map((one) => adapterRow(one.adapter)) });
  const hasDora = rows.some(({ data }) => data?.dora);
  const base = hasDora ? search.base : undefined; // without one there is nothing that a base is for
  const plan = useQuery(mergePlan(asked.active, asked.options, base, methods.isSuccess && isFitting));
  const needsBase = hasDora && !base && plan.error instanceof ApiError && plan.error.code === "opaque";
  const isCurrent = plan.isSuccess && !plan.isPlaceholderData && asked.active === active && asked.options === options;
  const ids = inputs.map((one) => one.adapter);
  const found = useAnalysis(comparison(ids.slice(0, 8), ids.length >= 2));
  const relations = found.data as unknown as ComparisonDocument | undefined;

  if (methods.isError) return <ErrorState error={methods.error} title="The methods cannot be listed" />;
  return (
    <div className="split">
      <Stack>
        <MergeInputs inputs={inputs} onChange={setInputs} />
        <Paper withBorder p="md" component="section" aria-label="How they are merged">
          <Stack gap="sm">
            <Select
              label="Method"
              searchable
              data={(methods.data ?? []).map(({ name }) => ({ value: name, label: name.replace(/_/g, " ") }))}
              value={method?.name ?? null}
              allowDeselect={false}
              onChange={(name) => {
                setNumbers({});
                change({ method: name === "weighted_sum" ? undefined : (name ?? undefined) });
              }}
            />
            {method && <Text size="sm">{method.says}.</Text>}
            {method?.wrong && (
              <Alert color="orange" variant="light" p="xs">
                <Text size="sm" c="var(--mantine-color-text)">
                  Reproduced with what is wrong in it: {method.wrong}.
                </Text>
              </Alert>
            )}
            {method?.most_inputs != null && active.length > method.most_inputs && (
              <Alert color="red" variant="light" p="xs" role="alert">
                <Text size="sm" c="var(--mantine-color-text)">
                  This method takes at most {method.most_inputs} adapters.
                </Text>
              </Alert>
            )}
            <Parameters
              method={method}
              values={numbers}
              onChange={(name, value) => setNumbers((before) => ({ ...before, [name]: value }))}
            />
            <Group grow align="flex-start">
              <NumberInput
                label="Truncate to rank"
                placeholder="exact"
                min={1}
                allowDecimal={false}
                value={search.rank ?? ""}
                onChange={(value) => change({ rank: typeof value === "number" && value >= 1 ? value : undefined })}
              />
              <Select
                label="Stored type"
                data={DTYPES}
                value={search.dtype ?? "keep"}
                allowDeselect={false}
                onChange={(value) => change({ dtype: value === "keep" ? undefined : (value ?? undefined) })}
              />
            </Group>
            <Select
              label="Weights"
              data={NORMALIZE}
              value={normalize}
              allowDeselect={false}
              onChange={(value) => value && setNormalize(value as Normalize)}
            />
            {hasDora && (
              <CheckpointSelect
                label="Base checkpoint"
                description="What a DoRA changes depends on the weights it was trained on."
                value={search.base}
                onChange={(next) => change({ base: next })}
              />
            )}
            <Checkbox
              size="sm"
              label="Even if they share no layer"
              checked={disjoint}
              onChange={(event) => setDisjoint(event.currentTarget.checked)}
            />
          </Stack>
        </Paper>
        <WriteForm
          what="merge"
          request={{ kind: "merge", inputs: active, options, ...(base ? { base } : {}) }}
          plan={plan.data}
          isCurrent={isCurrent}
          error={plan.isError ? plan.error : null}
          after={(name) => (
            <Group gap="xs">
              <Badge variant="light" color="gray">
                the recipe is kept in the header of {printable(name)}
              </Badge>
            </Group>
          )}
        />
      </Stack>
      <Stack>
        {needsBase ? (
          <Empty title="Trained on which base?" icon={<IconGitMerge size={42} stroke={1.3} aria-hidden />}>
            <Text size="sm">
              A DoRA sets the norms of its base's weights: without them it has no delta to add. Choose the base
              checkpoint that it was trained on.
            </Text>
          </Empty>
        ) : (
          <MergePlanView
            plan={plan.data}
            error={plan.isError ? plan.error : null}
            isFetching={plan.isFetching}
            isCurrent={isCurrent}
          />
        )}
        {found.isLoading && (
          <Waiting what="Measuring how they meet" done={found.progress?.done} total={found.progress?.total} />
        )}
        {found.isError && <ErrorState error={found.error} title="There is no picture of how they meet" />}
        {relations && (
          <div className="halves">
            <SimilarityMatrix found={relations} title="Interference" pair={pair} onPair={setPair} />
            <PairBlocks found={relations} pair={Math.min(pair, relations.pairs.length - 1)} />
          </div>
        )}
      </Stack>
    </div>
  );
}

/** The numbers a method takes; empty leaves the method's own default. */
function Parameters({
  method,
  values,
  onChange,
}: {
  method: Schemas["MergeMethod"] | undefined;
  values: Record<string, unknown>;
  onChange: (name: string, value: unknown) => void;
}) {
  const names = Object.entries(method?.parameters ?? {});
  if (names.length === 0) return null;
  const choices: Record<string, string[]> = {
    threshold: ["layer", "global"],
    core_rule: ["ties", "dare_linear", "sum"],
  };
  return (
    <Group grow align="flex-start">
      {names.map(([name, start]) =>
        choices[name] ? (
          <Select
            key={name}
            label={name.replace(/_/g, " ")}
            data={choices[name]}
            value={(values[name] as string) ?? String(start)}
            allowDeselect={false}
            onChange={(value) => onChange(name, value)}
          />
        ) : (
          <NumberInput
            key={name}
            label={name}
            placeholder={start === null ? "by the method" : String(start)}
            value={(values[name] as number) ?? ""}
            step={name === "seed" ? 1 : 0.05}
            onChange={(value) => onChange(name, value)}
          />
        ),
      )}
    </Group>
  );
}
