import { Badge } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, type Job, take } from "../../api/client";
import { jobs } from "../../api/queries";
import { withJob } from "../../app/JobStream";

const COLORS: Record<Job["state"], string> = {
  queued: "gray",
  running: "blue",
  succeeded: "teal",
  failed: "red",
  cancelled: "gray",
  interrupted: "orange",
};

export function StateBadge({ job }: { job: Job }) {
  return (
    <Badge variant="light" color={COLORS[job.state]} tt="none">
      {job.cancelling && job.state === "running" ? "stopping" : job.state}
    </Badge>
  );
}

export function useJobActions() {
  const client = useQueryClient();
  const learn = (job: Job) => client.setQueryData(jobs.queryKey, (known) => withJob(known, job));
  const cancel = useMutation({
    mutationFn: (id: string) => take(api.POST("/api/v1/jobs/{id}/cancel", { params: { path: { id } } })),
    meta: { failure: "The job could not be cancelled" },
  });
  const retry = useMutation({
    mutationFn: (id: string) => take(api.POST("/api/v1/jobs/{id}/retry", { params: { path: { id } } })),
    meta: { failure: "The job was not started again", success: "The job is queued again" },
    onSuccess: learn,
  });
  const forget = useMutation({
    mutationFn: (id: string) => take(api.DELETE("/api/v1/jobs/{id}", { params: { path: { id } } })),
    meta: { failure: "The job was not removed" },
    onSuccess: (_, id) => client.setQueryData(jobs.queryKey, (known) => known?.filter((job) => job.id !== id)),
  });
  return { cancel, retry, forget };
}
