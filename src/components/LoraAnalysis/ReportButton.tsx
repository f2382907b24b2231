import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { api, take } from "../../api/client";
import { useShownJob } from "./Screen";

/** Everything about an adapter on one HTML page, made by a job of this screen, which then offers it. */
export function ReportButton({ id }: { id: string }) {
  const { show } = useShownJob();
  const report = useMutation({
    mutationFn: () => take(api.POST("/api/v1/jobs", { body: { kind: "report", adapter: id } })),
    meta: { failure: "The report was not started" },
    onSuccess: (job) => show(job.id),
  });
  return (
    <Button size="sm" variant="default" loading={report.isPending} onClick={() => report.mutate()}>
      Report
    </Button>
  );
}
