import { Button, Drawer, Group, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { jobResult, useJob } from "../../api/queries";
import { save } from "../../lib/export";
import { date, printable } from "../../lib/format";
import { isDocument } from "../../lib/output";
import { Command } from "../ui/Copy";
import { CancelButton, JobError, progressText, RetryButton } from "./JobParts";
import { took } from "./Jobs";
import { StateBadge } from "./jobActions";
import { ResultButtons } from "./ResultButtons";

/** One job: what was asked, how it went, what came of it. */
export function JobDrawer({ id, onClose }: { id?: string; onClose: () => void }) {
  const job = useJob(id ?? null);
  const result = useQuery(jobResult(id ?? "", Boolean(job?.has_result && isDocument(job))));
  return (
    <Drawer
      opened={Boolean(id && job)}
      onClose={onClose}
      position="right"
      size="lg"
      title={<b className="breakable">{printable(job?.title ?? "")}</b>}
      overlayProps={{ backgroundOpacity: 0.25 }}
    >
      {job && (
        <Stack>
          <Group gap="sm">
            <StateBadge job={job} />
            <Text size="sm">
              {job.finished_at ? `took ${took(job)}` : progressText(job)} · {date(job.created_at)}
            </Text>
          </Group>
          {job.error && <JobError error={job.error} title={`Error · ${job.error.code}`} />}
          <Group gap="xs">
            {job.finished_at === null ? <CancelButton job={job} size="sm" /> : <RetryButton job={job} size="sm" />}
            <ResultButtons job={job} size="sm" compare={false} />
            {result.data !== undefined && (
              <Button
                size="sm"
                variant="default"
                onClick={() =>
                  save(
                    `${job.kind}-${job.id.slice(0, 8)}.json`,
                    `${JSON.stringify(result.data, null, 2)}\n`,
                    "application/json",
                  )
                }
              >
                Report JSON
              </Button>
            )}
          </Group>
          <Command command={job.command} />
          <Section title="Parameters" text={JSON.stringify(job.params, null, 2)} />
          {job.summary && <Section title="Summary" text={JSON.stringify(job.summary, null, 2)} />}
          <Section
            title="Log"
            text={job.log.map(({ time, text }) => `${date(time)}  ${text}`).join("\n") || "Nothing was logged."}
          />
        </Stack>
      )}
    </Drawer>
  );
}

function Section({ title, text }: { title: string; text: string }) {
  return (
    <section aria-label={title}>
      <Title order={3} size="h6" mb={4}>
        {title}
      </Title>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable with the keyboard */}
      <pre className="json" style={{ maxHeight: 260, overflow: "auto" }} tabIndex={0}>
        {printable(text.slice(0, 100_000))}
      </pre>
    </section>
  );
}
