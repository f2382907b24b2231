import { Button } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { downloadOf, type Job } from "../../api/client";
import { isOneFile } from "../../lib/output";

/** Jobs whose result is another form of the adapter they read first. */
const COMPARABLE = ["resize", "merge", "convert"];

/** A checkpoint in several files has no header of its own. */
function isInspectable(job: Job): boolean {
  return job.kind !== "bake" || isOneFile(job);
}

/** What can be done with what a job made: open it, download it, lay it beside what it was made of. */
export function ResultButtons({
  job,
  size,
  compare = true,
}: {
  job: Job;
  size: "compact-xs" | "sm";
  compare?: boolean;
}) {
  const navigate = useNavigate();
  const [made] = job.outputs;
  const [input] = job.adapters;
  const download = downloadOf(job);
  return (
    <>
      {made && isInspectable(job) && (
        <Button size={size} variant="default" onClick={() => void navigate({ to: "/inspect", search: { id: made } })}>
          Open
        </Button>
      )}
      {download && (
        <Button size={size} variant="default" component="a" href={download} download>
          Download
        </Button>
      )}
      {compare && made && input && COMPARABLE.includes(job.kind) && (
        <Button
          size={size}
          variant="default"
          onClick={() => void navigate({ to: "/compare", search: { ids: [input, made] } })}
        >
          Compare with original
        </Button>
      )}
    </>
  );
}
