import { CloseButton, Group, Paper, Progress, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { Job } from "../../api/client";
import { jobResult, useJob } from "../../api/queries";
import { bytes, count, percent, printable } from "../../lib/format";
import { Command } from "../ui/Copy";
import { CancelButton, JobError, progressText, RetryButton } from "./JobParts";
import { StateBadge } from "./jobActions";
import { Stat } from "./ResizeFigures";
import { ResultButtons } from "./ResultButtons";

/** The job that writes, on the page it was started from: progress, then what was measured on the written file. */
export function JobPanel({ id, onClose }: { id: string; onClose: () => void }) {
  const job = useJob(id);
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
            <CancelButton job={job} size="compact-sm" />
          </Group>
        )}
        {job.error && <JobError error={job.error} title="It failed" />}
        {!active && job.state !== "succeeded" && (
          <Group>
            <RetryButton job={job} size="sm" />
          </Group>
        )}
        {job.state === "succeeded" && job.outputs[0] && <Verification job={job} />}
        {job.state === "succeeded" && job.kind === "report" && <Page job={job} />}
      </Stack>
    </Paper>
  );
}

function Verification({ job }: { job: Job }) {
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
    rounding?: number;
    tensors?: number;
    tensors_changed?: number;
  };
  return (
    <Stack gap="sm" data-testid="verification">
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <Stat name="Written" value={bytes(summary.size_after)} testid="written-size">
          {summary.size_after !== undefined && `${count(summary.size_after)} bytes`}
        </Stat>
        {summary.rounding === undefined ? (
          <Stat
            name="Error, measured"
            value={typeof summary.relative_error === "number" ? percent(summary.relative_error, 3) : "–"}
            testid="measured-error"
          >
            of the delta, on the values that are stored
          </Stat>
        ) : (
          <Stat name="Rounding, measured" value={percent(summary.rounding, 3)} testid="measured-rounding">
            of what was added, by the types of the checkpoint
          </Stat>
        )}
        {summary.tensors_changed !== undefined && (
          <Stat name="Tensors changed" value={`${count(summary.tensors_changed)} of ${count(summary.tensors)}`}>
            the rest is copied byte for byte
          </Stat>
        )}
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
        <ResultButtons job={job} size="sm" />
      </Group>
    </Stack>
  );
}

/** A report: one file for people, which this page does not show. */
function Page({ job }: { job: Job }) {
  const size = (job.summary as { size?: number } | null)?.size;
  return (
    <Stack gap="sm" data-testid="report-ready">
      <Text size="sm">
        One HTML page of {bytes(size)} without scripts, with metadata, findings, figures, spectra, and the rank it seems
        to need. It loads nothing from anywhere.
      </Text>
      <Group gap="xs">
        <ResultButtons job={job} size="sm" />
      </Group>
      <Command command={job.command} />
    </Stack>
  );
}
