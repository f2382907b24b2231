import { Checkbox, NumberInput, Paper, Select, Stack, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconArrowsSplit } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Schemas } from "../../api/client";
import { extractPlan } from "../../api/queries";
import { CONVERT_TARGETS, EXTRACT_RULES } from "../../app/router";
import { Empty } from "../ui/states";
import { CheckpointSelect } from "./CheckpointSelect";
import { TARGETS } from "./dialects";
import { ExtractPlanView } from "./ExtractPlanView";
import { DTYPES } from "./resizeOptions";
import { Screen } from "./Screen";
import { WriteForm } from "./WriteForm";

/** The ways to choose ranks, with where each starts. */
const RULES = {
  rank: { label: "Fixed rank", help: "The same for every layer.", start: 32, max: 4096, step: 1 },
  energy: {
    label: "Energy kept per layer",
    help: "The smallest rank that keeps this of Σσ².",
    start: 0.95,
    max: 1,
    step: 0.01,
  },
  error: {
    label: "Error of the whole",
    help: "The fewest bytes for at most this error.",
    start: 0.2,
    max: 1,
    step: 0.01,
  },
  size: { label: "Size of the file (MB)", help: "The smallest error that fits.", start: 100, max: 1e6, step: 1 },
} as const;

const DTYPE_NAMES = ["fp32", "fp16", "bf16"];
const CARRIES_NORMS = ["kohya", "comfyui"];

/** The adapter between two checkpoints: what training changed, factored. */
export default function Extract() {
  const search = useSearch({ from: "/extract" });
  const navigate = useNavigate({ from: "/extract" });
  const { tuned, base, rule = "rank", to = "kohya", dtype = "fp16", norms } = search;
  const value = search.value ?? RULES[rule].start;
  const change = (next: Partial<typeof search>) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });
  const options = useMemo(
    () =>
      ({
        to,
        [rule]: rule === "size" ? Math.round(value * 1e6) : value,
        ...(DTYPE_NAMES.includes(dtype) ? { dtype } : {}),
        ...(norms && CARRIES_NORMS.includes(to) ? { full_norms: true } : {}),
      }) as Schemas["ExtractOptions"],
    [to, rule, value, dtype, norms],
  );
  const [asked] = useDebouncedValue(options, 350);
  const plan = useQuery(extractPlan(tuned ?? "", base ?? "", asked));
  const isCurrent = plan.isSuccess && !plan.isPlaceholderData && asked === options;
  const error = plan.isError ? plan.error : null;
  return (
    <Screen title="Extract">
      <div className="split">
        <Stack>
          <Paper withBorder p="md" component="section" aria-label="From what">
            <Stack gap="sm">
              <CheckpointSelect
                label="Changed checkpoint"
                value={tuned}
                required
                onChange={(next) => change({ tuned: next })}
              />
              <CheckpointSelect
                label="What it was made from"
                value={base}
                required
                onChange={(next) => change({ base: next })}
              />
            </Stack>
          </Paper>
          <Paper withBorder p="md" component="section" aria-label="How it is written">
            <Stack gap="sm">
              <Select
                label="Ranks by"
                description={RULES[rule].help}
                data={EXTRACT_RULES.map((name) => ({ value: name, label: RULES[name].label }))}
                value={rule}
                allowDeselect={false}
                onChange={(name) =>
                  change({ rule: EXTRACT_RULES.find((one) => one === name && one !== "rank"), value: undefined })
                }
              />
              <NumberInput
                label={rule === "rank" ? "Rank" : "Value"}
                value={value}
                min={RULES[rule].step}
                max={RULES[rule].max}
                step={RULES[rule].step}
                allowDecimal={rule !== "rank"}
                onChange={(next) => typeof next === "number" && next > 0 && change({ value: next })}
              />
              <Select
                label="For"
                data={CONVERT_TARGETS.map((name) => ({ value: name, label: TARGETS[name] }))}
                value={to}
                allowDeselect={false}
                onChange={(name) => change({ to: CONVERT_TARGETS.find((one) => one === name && one !== "kohya") })}
              />
              <Select
                label="Stored type"
                data={DTYPES.filter((one) => DTYPE_NAMES.includes(one.value))}
                value={DTYPE_NAMES.includes(dtype) ? dtype : "fp16"}
                allowDeselect={false}
                onChange={(name) => change({ dtype: name === "fp16" ? undefined : (name ?? undefined) })}
              />
              {CARRIES_NORMS.includes(to) && (
                <Checkbox
                  label="Norms and biases too, whole"
                  checked={Boolean(norms)}
                  onChange={(event) => change({ norms: event.currentTarget.checked || undefined })}
                />
              )}
            </Stack>
          </Paper>
          {tuned && base && (
            <WriteForm
              what="extraction"
              request={{ kind: "extract", tuned, base, options }}
              plan={plan.data}
              isCurrent={isCurrent}
              error={error}
              about="at most "
            />
          )}
        </Stack>
        <Stack>
          {tuned && base ? (
            <ExtractPlanView plan={plan.data} error={error} isCurrent={isCurrent} isFetching={plan.isFetching} />
          ) : (
            <Empty title="Between which checkpoints?" icon={<IconArrowsSplit size={42} stroke={1.3} aria-hidden />}>
              <Text size="sm">
                Every weight that both hold is compared; the differences are factored, and their error is measured on
                what is stored.
              </Text>
            </Empty>
          )}
        </Stack>
      </div>
    </Screen>
  );
}
