import { Checkbox, Paper, Select, Stack, Text } from "@mantine/core";
import { IconTransform } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { adapterRow, convertPlan } from "../../api/queries";
import { CONVERT_TARGETS } from "../../app/router";
import { Empty, ErrorState } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { ConvertPlanView } from "./ConvertPlanView";
import { TARGETS } from "./dialects";
import { DTYPES } from "./resizeOptions";
import { Screen } from "./Screen";
import { WriteForm } from "./WriteForm";

/** The same deltas under the names that another program reads: what cannot be said is on the screen before it is lost. */
export default function Convert() {
  const { id } = useSearch({ from: "/convert" });
  const navigate = useNavigate({ from: "/convert" });
  const row = useQuery({ ...adapterRow(id ?? ""), enabled: Boolean(id) });
  return (
    <Screen
      title="Convert"
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
        <Empty title="Which adapter, for which program?" icon={<IconTransform size={42} stroke={1.3} aria-hidden />}>
          <Text size="sm">
            Choose one above. You see which layers are renamed, split and joined, and what the other program has no
            words for, before anything is written.
          </Text>
        </Empty>
      )}
      {row.isError && <ErrorState error={row.error} title="This adapter is not in the library" />}
      {id && row.data && <Converting key={id} id={id} from={row.data.dialect} />}
    </Screen>
  );
}

function Converting({ id, from }: { id: string; from: string | null }) {
  const search = useSearch({ from: "/convert" });
  const navigate = useNavigate({ from: "/convert" });
  const to = search.to ?? (from === "kohya" ? "peft" : "kohya");
  const dtype = DTYPES.some(({ value }) => value === search.dtype) ? search.dtype : undefined;
  const change = (next: Partial<typeof search>) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });
  const options = useMemo(() => ({ to, ...(dtype ? { dtype } : {}) }) as Schemas["ConvertOptions"], [to, dtype]);
  const plan = useQuery(convertPlan(id, options));
  const isCurrent = plan.isSuccess && !plan.isPlaceholderData;
  return (
    <div className="split">
      <Stack>
        <Paper withBorder p="md" component="section" aria-label="How to convert">
          <Stack gap="sm">
            <Select
              label="To"
              description={from ? `Now it has the names of ${from}.` : undefined}
              data={CONVERT_TARGETS.map((value) => ({ value, label: TARGETS[value] }))}
              value={to}
              allowDeselect={false}
              onChange={(value) => change({ to: (value ?? undefined) as typeof to | undefined })}
            />
            <Select
              label="Stored type"
              data={DTYPES}
              value={dtype ?? "keep"}
              allowDeselect={false}
              onChange={(value) => change({ dtype: value === "keep" ? undefined : (value ?? undefined) })}
            />
          </Stack>
        </Paper>
        <WriteConversion key={to} id={id} options={options} plan={isCurrent ? plan.data : undefined} />
      </Stack>
      <Stack>
        <ConvertPlanView
          plan={plan.data}
          error={plan.isError ? plan.error : null}
          isCurrent={isCurrent}
          isFetching={plan.isFetching}
        />
      </Stack>
    </div>
  );
}

interface WriteConversionProps {
  id: string;
  options: Schemas["ConvertOptions"];
  plan: Schemas["ConvertPlan"] | undefined;
}

/** Writes what the plan says; where something would be lost, only after that was agreed to. */
function WriteConversion({ id, options, plan }: WriteConversionProps) {
  const [agreed, setAgreed] = useState(false);
  const loses = (plan?.missing.length ?? 0) > 0;
  return (
    <WriteForm
      what="conversion"
      request={{ kind: "convert", adapter: id, options: { ...options, drop: loses && agreed } }}
      plan={plan}
      isCurrent={plan !== undefined}
      isHeld={loses && !agreed}
      // The plan was made with --drop so that it lists what that would cost.
      command={loses ? plan?.command : plan?.command.replace(" --drop", "")}
    >
      {loses && (
        <Checkbox
          label="Leave out what cannot be written"
          checked={agreed}
          onChange={(event) => setAgreed(event.currentTarget.checked)}
        />
      )}
    </WriteForm>
  );
}
