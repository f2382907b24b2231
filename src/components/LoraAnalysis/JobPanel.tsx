import { Alert, Button, CloseButton, Group, Paper, Progress, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { fileAddress, type Job } from "../../api/client";
import { jobResult, useJob } from "../../api/queries";
import { bytes, count, percent, printable } from "../../lib/format";
import { isOneFile } from "../../lib/output";
import { StateBadge, useJobActions } from "./jobActions";
import { Stat } from "./ResizeFigures";

/** The job that writes, on the page it was started from: progress, then what was measured on the written file. */
export function JobPanel({ id, onClose }: { id: string; onClose: () => void }) {
  const job = useJob(id);
  const { cancel, retry } = useJobActions();
  if (!job) return null;
  const active = job.state === "queued" || job.state === "running";
  return (
    <Paper withBorder p="md" component="section" aria-label="The job" radius="md" shadow="xs">
      <Stack gap="sm">
        <Group justify="space-between" wrap="nowrap">
          <Group gap="sm">
            <Title order={2} size="h5" className="breakable">
              {printable(job.title)}
            </Title>
            <StateBadge job={job} />
          </Group>
          {!active && <CloseButton aria-label="Put the job away" onClick={onClose} />}
        </Group>
        {active && (
          <Group wrap="nowrap">
            <Progress
              flex={1}
              value={100 * (job.progress.fraction ?? 0)}
              animated={job.state === "running"}
              aria-label={`Progress of ${job.title}`}
            />
            <Text size="sm" className="num nowrap">
              {progressText(job)}
            </Text>
            <Button
              size="compact-sm"
              variant="default"
              loading={job.cancelling || cancel.isPending}
              onClick={() => cancel.mutate(job.id)}
            >
              Cancel
            </Button>
          </Group>
        )}
        {job.error && (
          <Alert color="red" variant="light" title="It failed" role="alert">
            <Text size="sm" className="breakable" c="var(--mantine-color-text)">
              {printable(job.error.message)}
            </Text>
          </Alert>
        )}
        {!active && job.state !== "succeeded" && (
          <Group>
            <Button size="sm" variant="default" loading={retry.isPending} onClick={() => retry.mutate(job.id)}>
              Run again
            </Button>
          </Group>
        )}
        {job.state === "succeeded" && job.outputs[0] && <Verification job={job} output={job.outputs[0]} />}
      </Stack>
    </Paper>
  );
}

export function progressText(job: Job): string {
  const { done, total, unit } = job.progress;
  if (job.state === "queued") return "waiting";
  if (!total) return done ? `${count(done)} ${unit ?? ""}` : "starting";
  return unit === "bytes" ? `${bytes(done)} of ${bytes(total)}` : `${count(done)} of ${count(total)} ${unit ?? ""}`;
}

function Verification({ job, output }: { job: Job; output: string }) {
  const navigate = useNavigate();
  const result = useQuery(jobResult(job.id));
  const report = (result.data ?? {}) as {
    relative_error?: number | null;
    truncation_error?: number | null;
    written?: { size?: number; sha256?: string };
  };
  const summary = (job.summary ?? {}) as {
    relative_error?: number | null;
    size_after?: number;
    layers_changed?: number;
    layers_total?: number;
  };
  return (
    <Stack gap="sm" data-testid="verification">
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <Stat name="Written" value={bytes(summary.size_after)} testid="written-size">
          {summary.size_after !== undefined && `${count(summary.size_after)} bytes`}
        </Stat>
        <Stat
          name="Error, measured"
          value={typeof summary.relative_error === "number" ? percent(summary.relative_error, 3) : "–"}
          testid="measured-error"
        >
          of the delta, on the values that are stored
        </Stat>
        {summary.layers_changed !== undefined && (
          <Stat name="Layers changed" value={`${count(summary.layers_changed)} of ${count(summary.layers_total)}`}>
            the rest is copied byte for byte
          </Stat>
        )}
      </SimpleGrid>
      {report.written?.sha256 && (
        <Text size="xs" c="dimmed" className="breakable">
          SHA-256 <span className="mono">{report.written.sha256}</span>
        </Text>
      )}
      <Group gap="xs">
        <Button size="sm" variant="default" onClick={() => void navigate({ to: "/inspect", search: { id: output } })}>
          Open
        </Button>
        {isOneFile(job) && (
          <Button size="sm" variant="default" component="a" href={fileAddress(output)} download>
            Download
          </Button>
        )}
        {job.adapters[0] && (
          <Button
            size="sm"
            variant="default"
            onClick={() => void navigate({ to: "/compare", search: { ids: [job.adapters[0]!, output] } })}
          >
            Compare with original
          </Button>
        )}
      </Group>
    </Stack>
  );
}
