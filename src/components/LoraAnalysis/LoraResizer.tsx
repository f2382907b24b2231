import { Stack, Text } from "@mantine/core";
import { useDebouncedCallback, useDebouncedValue } from "@mantine/hooks";
import { IconArrowsMinimize } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState } from "react";
import { adapterRow, resizePlan, sizeModel } from "../../api/queries";
import { Empty, ErrorState } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { QualityCurve } from "./QualityCurve";
import { ResizeFigures } from "./ResizeFigures";
import { ResizeForm } from "./ResizeForm";
import { ResizePlanView } from "./ResizePlanView";
import { ALPHAS, type Choice, DTYPES, needsBase, optionsOf, RULES } from "./resizeOptions";
import { Screen } from "./Screen";
import { energyOfPlan, predict, useCurve } from "./usePrediction";
import { useSpectra } from "./useSpectra";
import { WriteForm } from "./WriteForm";

/** Ranks by the exact truncated SVD: the price is on the screen before anything is written. */
export default function LoraResizer() {
  const { id } = useSearch({ from: "/resize" });
  const navigate = useNavigate({ from: "/resize" });
  const row = useQuery({ ...adapterRow(id ?? ""), enabled: Boolean(id) });
  return (
    <Screen
      title="Resize"
      head={
        <div className="picker">
          <AdapterPicker
            label="Adapter"
            value={id}
            onChange={(next) => void navigate({ search: (before) => ({ ...before, id: next.id, job: undefined }) })}
          />
        </div>
      }
    >
      {!id && (
        <Empty title="Which adapter gets smaller?" icon={<IconArrowsMinimize size={42} stroke={1.3} aria-hidden />}>
          <Text size="sm">
            Choose one above. You see what every rank keeps and what the file will weigh, to the byte, before anything
            is written.
          </Text>
        </Empty>
      )}
      {row.isError && <ErrorState error={row.error} title="This adapter is not in the library" />}
      {id && row.data && <Resizing key={id} id={id} name={row.data.name} sizeBefore={row.data.size_bytes} />}
    </Screen>
  );
}

interface ResizingProps {
  id: string;
  name: string;
  sizeBefore: number;
}

function Resizing({ id, name, sizeBefore }: ResizingProps) {
  const [choice, setChoice] = useChoice();
  const found = useSpectra(id);
  const model = useQuery(sizeModel(id, choice.dtype, choice.alpha));
  const curve = useCurve(found.data, model.data);
  const top = Math.max(curve.length, model.data?.metadata_bytes.length ?? 1);
  const shown = useMemo(
    () => (choice.rule.value === "rank" ? { ...choice, value: Math.min(choice.value, top) } : choice),
    [choice, top],
  );
  const prediction = useMemo(() => predict(shown, found.data, model.data), [shown, found.data, model.data]);

  // The page answers at once; the server is asked when the slider rests.
  const options = useMemo(() => optionsOf(shown), [shown]);
  const [asked] = useDebouncedValue(options, 350);
  const base = shown.rule.value === "recipe" && needsBase(shown.recipe) ? shown.base : undefined;
  const plan = useQuery(resizePlan(id, asked, base, model.isSuccess || model.isError));
  const isCurrent = plan.isSuccess && !plan.isPlaceholderData && asked === options;
  const nothing = isCurrent && plan.data?.layers_changed === 0;
  const planned = useMemo(
    () => (plan.data && found.data ? energyOfPlan(found.data, plan.data.layers) : null),
    [plan.data, found.data],
  );
  const setRank = useCallback((rank: number) => setChoice({ rule: RULES[0]!, value: rank }), [setChoice]);

  return (
    <div className="split">
      <Stack>
        <ResizeForm choice={shown} top={top} setChoice={setChoice} sizeBefore={sizeBefore} />
        <WriteForm
          what="resize"
          request={{ kind: "resize", adapter: id, options, ...(base ? { base } : {}) }}
          plan={plan.data}
          isCurrent={isCurrent}
          error={plan.isError ? plan.error : null}
          isHeld={nothing}
          after={() =>
            nothing && (
              <Text size="sm" role="status">
                No layer would change, so there is nothing to write.
              </Text>
            )
          }
        />
      </Stack>
      <Stack>
        <ResizeFigures
          energyOfPlan={planned}
          prediction={prediction}
          plan={plan.data}
          isCurrent={isCurrent}
          sizeBefore={model.data?.size_before ?? sizeBefore}
          waiting={found.isLoading ? found.progress : undefined}
        />
        {found.isError && <ErrorState error={found.error} title="There is no curve for this adapter" />}
        {curve.length > 0 && (
          <QualityCurve
            curve={curve}
            name={name}
            rank={shown.rule.value === "rank" ? shown.value : null}
            onRank={setRank}
          />
        )}
        <ResizePlanView
          plan={plan.data}
          error={plan.isError ? plan.error : null}
          isCurrent={isCurrent}
          isFetching={plan.isFetching}
          id={id}
          name={name}
        />
      </Stack>
    </div>
  );
}

/** The form's state: here at once, in the link when it rests. */
function useChoice(): [Choice, (next: Partial<Choice>) => void] {
  const search = useSearch({ from: "/resize" });
  const navigate = useNavigate({ from: "/resize" });
  const [choice, set] = useState<Choice>(() => choiceOf(search));
  const remember = useDebouncedCallback((next: Choice) => {
    void navigate({
      search: (before) => ({
        ...before,
        rule: next.rule.value === "rank" ? undefined : next.rule.value,
        value: next.value,
        dtype: next.dtype === "keep" ? undefined : next.dtype,
        alpha: next.alpha === "keep-scale" ? undefined : next.alpha,
        max_rank: next.maxRank,
        recipe: next.rule.value === "recipe" ? next.recipe : undefined,
        base: next.rule.value === "recipe" ? next.base : undefined,
      }),
      replace: true,
    });
  }, 250);
  const change = useCallback(
    (next: Partial<Choice>) =>
      set((before) => {
        const after = { ...before, ...next };
        if (next.rule && next.rule !== before.rule && next.value === undefined) after.value = next.rule.start;
        return after;
      }),
    [],
  );
  useEffect(() => remember(choice), [choice, remember]);
  return [choice, change];
}

function choiceOf(search: {
  rule?: string;
  value?: number;
  dtype?: string;
  alpha?: string;
  max_rank?: number;
  recipe?: string;
  base?: string;
}): Choice {
  const rule = RULES.find(({ value }) => value === search.rule) ?? RULES[0]!;
  const value = search.value !== undefined && search.value >= rule.min ? search.value : rule.start;
  return {
    rule,
    value: rule.value === "rank" ? Math.round(value) : value,
    dtype: DTYPES.some((one) => one.value === search.dtype) ? search.dtype! : "keep",
    alpha: ALPHAS.some((one) => one.value === search.alpha) ? search.alpha! : "keep-scale",
    maxRank: search.max_rank,
    recipe: search.recipe ?? "fro_lora=1,thr=-1.2",
    base: search.base,
  };
}
