import { Checkbox, Paper, Stack, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconFlame } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { bakePlan } from "../../api/queries";
import { Empty } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { BakePlanView } from "./BakePlanView";
import { CheckpointSelect } from "./CheckpointSelect";
import { MergeInputs } from "./MergeInputs";
import { Screen } from "./Screen";
import { useWeighted } from "./useWeighted";
import { WriteForm } from "./WriteForm";

/** Adds adapters to the weights of a checkpoint: a program then needs no adapter. */
export default function Bake() {
  const { base } = useSearch({ from: "/bake" });
  const navigate = useNavigate({ from: "/bake" });
  const { inputs, set, add } = useWeighted();
  const ready = base && inputs.length > 0;
  return (
    <Screen
      title="Bake"
      head={
        <div className="picker">
          <AdapterPicker label="Add an adapter" adding onChange={(row) => add(row.id)} />
        </div>
      }
    >
      <div className="split">
        <Stack>
          <Paper withBorder p="md" component="section" aria-label="Into what">
            <CheckpointSelect
              label="Checkpoint"
              description="Of the served folders. It is read; a new one is written."
              value={base}
              required
              onChange={(next) => void navigate({ search: (before) => ({ ...before, base: next }), replace: true })}
            />
          </Paper>
          {inputs.length > 0 && <MergeInputs inputs={inputs} onChange={set} />}
          {ready && <Baking base={base} inputs={inputs} form />}
        </Stack>
        <Stack>
          {ready ? (
            <Baking base={base} inputs={inputs} />
          ) : (
            <Empty
              title="Which adapters, into which checkpoint?"
              icon={<IconFlame size={42} stroke={1.3} aria-hidden />}
            >
              <Text size="sm">
                A weight multiplies an adapter's whole delta, once. You see every tensor that changes, and what has no
                place in the checkpoint, before anything is written.
              </Text>
            </Empty>
          )}
        </Stack>
      </div>
    </Screen>
  );
}

/** The plan, or the form that carries it out; both ask the same question, which is answered once. */
function Baking({ base, inputs, form = false }: { base: string; inputs: Schemas["BakeInput"][]; form?: boolean }) {
  const [agreed, setAgreed] = useState(false);
  const active = useMemo(() => inputs.filter((one) => one.weight !== 0), [inputs]);
  const [asked] = useDebouncedValue(active, 300);
  const plan = useQuery(bakePlan(base, asked));
  const isCurrent = plan.isSuccess && !plan.isPlaceholderData && asked === active;
  const error = plan.isError ? plan.error : null;
  if (!form) return <BakePlanView plan={plan.data} error={error} isCurrent={isCurrent} isFetching={plan.isFetching} />;
  const loses = (plan.data?.skipped.length ?? 0) > 0;
  return (
    <WriteForm
      what="bake"
      request={{ kind: "bake", base, inputs: active, options: { drop: loses && agreed } }}
      plan={plan.data}
      isCurrent={isCurrent}
      error={error}
      isHeld={(loses && !agreed) || (plan.data !== undefined && plan.data.size_after > plan.data.free)}
      // The plan was made with --drop so that it lists what that would cost.
      command={loses ? plan.data?.command : plan.data?.command.replace(" --drop", "")}
    >
      {loses && (
        <Checkbox
          label="Leave out what cannot be baked"
          checked={agreed}
          onChange={(event) => setAgreed(event.currentTarget.checked)}
        />
      )}
    </WriteForm>
  );
}
