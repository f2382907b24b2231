import { Button, Checkbox, Chip, Group, Progress, Stack, Text, Title } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { IconListDetails } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Job } from "../../api/client";
import { jobs } from "../../api/queries";
import { date, printable, seconds } from "../../lib/format";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { type Column, VirtualTable } from "../ui/VirtualTable";
import { JobDrawer } from "./JobDrawer";
import { progressText } from "./JobParts";
import { StateBadge, useJobActions } from "./jobActions";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled", "interrupted"] as const;

export default function Jobs() {
  const search = useSearch({ from: "/jobs" });
  const navigate = useNavigate({ from: "/jobs" });
  const found = useQuery(jobs);
  const { cancel, retry, forget } = useJobActions();
  const isNarrow = useMediaQuery("(max-width: 48em)");
  const states = search.state ?? [];
  const shown = useMemo(
    () =>
      (found.data ?? []).filter(
        (job) => (search.analyses || job.family !== "analysis") && (states.length === 0 || states.includes(job.state)),
      ),
    [found.data, search.analyses, states],
  );
  const finished = shown.filter((job) => job.finished_at !== null);
  const actions = { cancel: cancel.mutate, retry: retry.mutate };
  const change = (next: Partial<typeof search>) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });
  return (
    <Stack gap="md">
      <Group justify="space-between">
        <Title order={1} size="h3">
          Jobs
        </Title>
        <Group gap="md">
          <Chip.Group multiple value={states} onChange={(next) => change({ state: next.length ? next : undefined })}>
            <Group gap={6}>
              {STATES.map((state) => (
                <Chip key={state} value={state} size="xs" variant="outline">
                  {state}
                </Chip>
              ))}
            </Group>
          </Chip.Group>
          <Checkbox
            size="sm"
            label="Analyses too"
            checked={Boolean(search.analyses)}
            onChange={(event) => change({ analyses: event.currentTarget.checked || undefined })}
          />
          <Button
            size="sm"
            variant="default"
            disabled={finished.length === 0}
            onClick={() => {
              for (const job of finished) forget.mutate(job.id);
            }}
          >
            Clear finished
          </Button>
        </Group>
      </Group>
      {found.isPending && <Waiting what="Asking for the jobs" />}
      {found.isError && (
        <ErrorState error={found.error} title="The jobs cannot be shown" retry={() => void found.refetch()} />
      )}
      {found.data && shown.length === 0 && (
        <Empty title="No jobs" icon={<IconListDetails size={42} stroke={1.3} aria-hidden />}>
          <Text size="sm">
            Resizes, merges, checks and scans are listed here while they run and afterwards. They survive a reload of
            this page and a restart of the server.
          </Text>
        </Empty>
      )}
      {shown.length > 0 && (
        <VirtualTable
          label="Jobs"
          columns={columnsOf(actions, Boolean(isNarrow))}
          count={shown.length}
          rowAt={(at) => shown[at]}
          rowKey={(job) => job.id}
          onOpen={(job) => change({ job: job.id })}
          isSelected={(job) => job.id === search.job}
          rowHeight={44}
          height={Math.min(640, 40 + shown.length * 44)}
        />
      )}
      <JobDrawer id={search.job} onClose={() => change({ job: undefined })} />
    </Stack>
  );
}

function columnsOf(
  actions: { cancel: (id: string) => void; retry: (id: string) => void },
  isNarrow: boolean,
): Column<Job>[] {
  const kind: Column<Job> = { id: "kind", title: "Kind", width: 110, cell: (job) => job.kind };
  return [
    {
      id: "title",
      title: "Job",
      width: isNarrow ? 165 : 280,
      grow: true,
      cell: (job) => <b style={{ fontWeight: 600 }}>{printable(job.title)}</b>,
    },
    ...(isNarrow ? [] : [kind]), // the title begins with it
    { id: "state", title: "State", width: 110, rich: true, cell: (job) => <StateBadge job={job} /> },
    {
      id: "progress",
      title: "Progress",
      width: 230,
      rich: true,
      cell: (job) =>
        job.state === "running" || job.state === "queued" ? (
          <span style={{ display: "grid", gap: 3, width: 205 }}>
            <Progress
              size="sm"
              value={100 * (job.progress.fraction ?? 0)}
              animated={job.state === "running"}
              aria-label={`Progress of ${job.title}`}
            />
            <span className="num" style={{ fontSize: 11.5 }}>
              {progressText(job)}
            </span>
          </span>
        ) : (
          <span style={{ color: "var(--mantine-color-dimmed)" }}>{job.error ? printable(job.error.message) : ""}</span>
        ),
    },
    {
      id: "created",
      title: "Started",
      width: 164,
      cell: (job) => <span className="num">{date(job.started_at ?? job.created_at)}</span>,
    },
    { id: "took", title: "Took", width: 80, right: true, cell: (job) => took(job) },
    {
      id: "act",
      title: "Actions",
      hideTitle: true,
      width: 110,
      rich: true,
      cell: (job) =>
        job.finished_at === null ? (
          <Button
            size="compact-xs"
            variant="default"
            loading={job.cancelling}
            onClick={() => actions.cancel(job.id)}
            aria-label={`Cancel ${job.title}`}
          >
            Cancel
          </Button>
        ) : job.state !== "succeeded" ? (
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => actions.retry(job.id)}
            aria-label={`Run ${job.title} again`}
          >
            Run again
          </Button>
        ) : null,
    },
  ];
}

export function took(job: Job): string {
  if (!job.started_at || !job.finished_at) return "–";
  return seconds((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000);
}
