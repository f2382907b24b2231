import { Alert, Button, Code, Text } from "@mantine/core";
import type { Job } from "../../api/client";
import { bytes, count, printable } from "../../lib/format";
import { useJobActions } from "./jobActions";

type Size = "compact-xs" | "compact-sm" | "sm";

export function progressText(job: Job): string {
  const { done, total, unit } = job.progress;
  if (job.state === "queued") return "waiting";
  if (!total) return done ? `${count(done)} ${unit ?? ""}` : "starting";
  return unit === "bytes" ? `${bytes(done)} of ${bytes(total)}` : `${count(done)} of ${count(total)} ${unit ?? ""}`;
}

/** Why a job failed, and the line that installs what it lacked. */
export function JobError({ error, title }: { error: NonNullable<Job["error"]>; title: string }) {
  return (
    <Alert color="red" variant="light" title={title} role="alert">
      <Text size="sm" className="breakable" c="var(--mantine-color-text)">
        {printable(error.message)}
      </Text>
      {error.install && <Code>{error.install}</Code>}
    </Alert>
  );
}

export function CancelButton({ job, size }: { job: Job; size: Size }) {
  const { cancel } = useJobActions();
  return (
    <Button
      size={size}
      variant="default"
      loading={job.cancelling || cancel.isPending}
      onClick={() => cancel.mutate(job.id)}
    >
      Cancel
    </Button>
  );
}

export function RetryButton({ job, size }: { job: Job; size: Size }) {
  const { retry } = useJobActions();
  return (
    <Button size={size} variant="default" loading={retry.isPending} onClick={() => retry.mutate(job.id)}>
      Run again
    </Button>
  );
}
