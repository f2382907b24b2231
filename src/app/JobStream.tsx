import { Button } from "@mantine/core";
import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { api, EVENTS, type Job, type Schemas, take } from "../api/client";
import { ApiError } from "../api/errors";
import { jobs as jobsQuery } from "../api/queries";
import { ResultButtons } from "../components/LoraAnalysis/ResultButtons";
import { bytes, percent } from "../lib/format";
import { failed, succeeded } from "./notices";

const FINISHED = new Set(["succeeded", "failed", "cancelled", "interrupted"]);

/** Newest first, one entry per id. */
export function withJob(known: Job[] | undefined, job: Job): Job[] {
  const others = known ?? [];
  return others.some((one) => one.id === job.id)
    ? others.map((one) => (one.id === job.id ? job : one))
    : [job, ...others];
}

export function withProgress(known: Job[] | undefined, event: Schemas["ProgressEvent"]): Job[] | undefined {
  return known?.map((job) =>
    job.id === event.id
      ? {
          ...job,
          progress: {
            done: event.done,
            total: event.total,
            unit: event.unit,
            fraction: event.total ? event.done / event.total : null,
          },
        }
      : job,
  );
}

/**
 * One stream of events for all jobs of this tab: browsers allow six connections to a server, and a job may be long.
 * Where the stream breaks, the list is asked for every two seconds until it is back.
 */
export function JobStream() {
  const client = useQueryClient();
  const navigate = useNavigate();

  useEffect(() => {
    let source: EventSource | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let closed = false;

    const learn = (job: Job) => {
      const before = client.getQueryData(jobsQuery.queryKey)?.find((one) => one.id === job.id);
      client.setQueryData(jobsQuery.queryKey, (known) => withJob(known, job));
      if (FINISHED.has(job.state) && before && !FINISHED.has(before.state)) announce(job, client, navigate);
    };
    const open = () => {
      if (closed) return;
      source = new EventSource(EVENTS);
      source.addEventListener("snapshot", (event) => {
        for (const job of (JSON.parse(event.data) as Schemas["SnapshotEvent"]).jobs.toReversed()) learn(job);
      });
      source.addEventListener("job", (event) => learn((JSON.parse(event.data) as Schemas["JobEvent"]).job));
      source.addEventListener("progress", (event) => {
        const progress = JSON.parse(event.data) as Schemas["ProgressEvent"];
        client.setQueryData(jobsQuery.queryKey, (known) => withProgress(known, progress));
      });
      source.addEventListener("removed", (event) => {
        const { id } = JSON.parse(event.data) as Schemas["RemovedEvent"];
        client.setQueryData(jobsQuery.queryKey, (known) => known?.filter((job) => job.id !== id));
      });
      source.onerror = () => {
        // Closed means that the browser has given up, as after a 401; the request below asks for the login then.
        if (source?.readyState === EventSource.CLOSED) timer = setTimeout(poll, 2_000);
      };
    };
    const poll = async () => {
      try {
        const { items } = await take(api.GET("/api/v1/jobs", { params: { query: { limit: 200 } } }));
        for (const job of items.toReversed()) learn(job);
        open();
      } catch {
        // Still away: whoever needs the server now is told by what they asked for.
        if (!closed) timer = setTimeout(poll, 2_000);
      }
    };
    open();
    return () => {
      closed = true;
      clearTimeout(timer);
      source?.close();
    };
  }, [client, navigate]);
  return null;
}

type Navigate = ReturnType<typeof useNavigate>;

function announce(job: Job, client: QueryClient, navigate: Navigate): void {
  if (job.family === "write" || job.kind === "scan" || job.kind === "add") {
    void client.invalidateQueries({ queryKey: ["library"] });
    void client.invalidateQueries({ queryKey: ["roots"] });
  }
  const look = (
    <Button size="compact-xs" variant="default" onClick={() => void navigate({ to: "/jobs", search: { job: job.id } })}>
      Show the job
    </Button>
  );
  if (job.state === "succeeded") {
    if (job.family === "write")
      succeeded(`${job.title}: done`, figures(job), <WriteActions job={job} client={client} />);
    else if (job.family === "scan") succeeded(`${job.title}: done`);
  } else if (job.state === "cancelled") {
    succeeded(`${job.title}: cancelled`, "Nothing was written.");
  } else if (job.family !== "analysis") {
    const error = new ApiError(
      0,
      job.error ?? { code: job.state, message: "the server was stopped while this ran; it can be run again" },
    );
    failed(`${job.title}: ${job.state}`, error, look);
  }
}

function figures(job: Job): string {
  const { relative_error: error, size_after: size } = (job.summary ?? {}) as {
    relative_error?: number | null;
    size_after?: number;
  };
  const words = [];
  if (size !== undefined) words.push(bytes(size));
  if (typeof error === "number") words.push(`error of the delta ${percent(error, 3)}, measured on what is stored`);
  return words.join(" · ");
}

function WriteActions({ job, client }: { job: Job; client: QueryClient }) {
  const made = job.outputs[0];
  if (!made) return <ResultButtons job={job} size="compact-xs" />;
  const undo = async () => {
    try {
      await take(api.DELETE("/api/v1/adapters/{id}", { params: { path: { id: made } } }));
      succeeded("Undone", "The file that was just written is removed.");
      void client.invalidateQueries({ queryKey: ["library"] });
    } catch (error) {
      failed("The file could not be removed", error);
    }
  };
  return (
    <>
      <ResultButtons job={job} size="compact-xs" />
      <Button size="compact-xs" variant="default" color="red" onClick={() => void undo()}>
        Undo
      </Button>
    </>
  );
}
