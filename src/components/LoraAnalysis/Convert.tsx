import { Button, Checkbox, Group, Paper, Select, Stack, Text, TextInput, Title } from "@mantine/core";
import { IconTransform } from "@tabler/icons-react";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { adapterRow, convertPlan } from "../../api/queries";
import { CONVERT_TARGETS } from "../../app/router";
import { bytes } from "../../lib/format";
import { Command } from "../ui/Copy";
import { Empty, ErrorState } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { ConvertPlanView } from "./ConvertPlanView";
import { JobPanel } from "./JobPanel";
import { DTYPES } from "./resizeOptions";

const TARGETS: Record<(typeof CONVERT_TARGETS)[number], string> = {
  kohya: "kohya: sd-scripts, A1111, Forge",
  peft: "PEFT: a folder with its configuration",
  diffusers: "diffusers",
  comfyui: "ComfyUI",
};

/** The same deltas under the names that another program reads: what cannot be said is on the screen before it is lost. */
export default function Convert() {
  const { id, job } = useSearch({ from: "/convert" });
  const navigate = useNavigate({ from: "/convert" });
  const row = useQuery({ ...adapterRow(id ?? ""), enabled: Boolean(id) });
  return (
    <Stack gap="md">
      <Group align="flex-end" gap="lg">
        <Title order={1} size="h3">
          Convert
        </Title>
        <div style={{ width: 380 }}>
          <AdapterPicker
            label="Adapter"
            value={id}
            onChange={(next) => void navigate({ search: (before) => ({ ...before, id: next.id, job: undefined }) })}
          />
        </div>
      </Group>
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
      {job && (
        <JobPanel
          id={job}
          onClose={() => void navigate({ search: (before) => ({ ...before, job: undefined }), replace: true })}
        />
      )}
    </Stack>
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
  const navigate = useNavigate({ from: "/convert" });
  const [typed, setTyped] = useState("");
  const [agreed, setAgreed] = useState(false);
  const loses = (plan?.missing.length ?? 0) > 0;
  const output = typed.trim();
  const write = useMutation({
    mutationFn: () =>
      take(
        api.POST("/api/v1/jobs", {
          body: {
            kind: "convert",
            adapter: id,
            options: { ...options, drop: loses && agreed },
            ...(output ? { output } : {}),
          },
        }),
      ),
    meta: { failure: "The conversion was not started", success: "The conversion is queued" },
    onSuccess: (job) => void navigate({ search: (before) => ({ ...before, job: job.id }), replace: true }),
  });
  const suggested = plan?.output ?? "";
  const named = plan && output ? plan.command.replace(suggested, output) : plan?.command;
  return (
    <Paper withBorder p="md" component="section" aria-label="Write">
      <Stack gap="sm">
        <TextInput
          label="Output name"
          description="In the server's output folder; never over an existing file."
          placeholder={suggested}
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
        {loses && (
          <Checkbox
            label="Leave out what cannot be written"
            checked={agreed}
            onChange={(event) => setAgreed(event.currentTarget.checked)}
          />
        )}
        <Button onClick={() => write.mutate()} loading={write.isPending} disabled={!plan || (loses && !agreed)}>
          {plan ? `Write ${bytes(plan.size_after)}` : "Write"}
        </Button>
        {/* The plan was made with --drop so that it lists what that would cost. */}
        <Command command={loses ? named : named?.replace(" --drop", "")} />
      </Stack>
    </Paper>
  );
}
