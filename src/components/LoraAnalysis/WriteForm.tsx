import { Button, Paper, Stack, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { api, type JobRequest, take } from "../../api/client";
import { bytes } from "../../lib/format";
import { Command } from "../ui/Copy";
import { useShownJob } from "./Screen";

interface Planned {
  output: string;
  command: string | null;
  size_after: number;
}

interface WriteFormProps {
  /** In a sentence: "The {what} was not started". */
  what: string;
  /** The job without the name of what it writes. */
  request: JobRequest;
  plan: Planned | undefined;
  /** Whether the plan is that of the request. */
  isCurrent: boolean;
  error?: unknown;
  /** Why it must not be written all the same. */
  isHeld?: boolean;
  /** The line to copy, where it is another one than the plan's. */
  command?: string | null;
  /** Said about a size that is no exact one. */
  about?: string;
  /** What has to be decided before, above the button. */
  children?: ReactNode;
  /** Below it, with the name it will have. */
  after?: (name: string) => ReactNode;
}

/** Writes what the plan says, and only that: the button waits for the plan of the present choice. */
export function WriteForm(props: WriteFormProps) {
  const { what, request, plan, isCurrent, error, isHeld, about = "", children, after } = props;
  const { show } = useShownJob();
  const [typed, setTyped] = useState("");
  const output = typed.trim();
  const write = useMutation({
    mutationFn: () => take(api.POST("/api/v1/jobs", { body: { ...request, ...(output ? { output } : {}) } })),
    meta: { failure: `The ${what} was not started`, success: `The ${what} is queued` },
    onSuccess: (job) => show(job.id),
  });
  const suggested = plan?.output ?? "";
  const line = props.command === undefined ? plan?.command : props.command;
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
        {children}
        <Button
          onClick={() => write.mutate()}
          loading={write.isPending}
          disabled={!isCurrent || Boolean(isHeld) || Boolean(error)}
        >
          {isCurrent && plan ? `Write ${about}${bytes(plan.size_after)}` : "Write"}
        </Button>
        {isCurrent && <Command command={output ? line?.replace(suggested, output) : line} />}
        {isCurrent && plan && after?.(output || suggested)}
      </Stack>
    </Paper>
  );
}
