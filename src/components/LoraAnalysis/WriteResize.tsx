import { Button, Paper, Stack, Text, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { memo, useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { bytes } from "../../lib/format";
import { Command } from "../ui/Copy";

interface WriteResizeProps {
  id: string;
  name: string;
  isFolder: boolean;
  options: Schemas["ResizeOptions"];
  plan: Schemas["ResizePlan"] | undefined;
  isCurrent: boolean;
  error: unknown;
}

/** Writes what the plan says, and only that: the button waits for the plan of the present choice. */
export const WriteResize = memo(function WriteResize({ id, options, plan, isCurrent, error }: WriteResizeProps) {
  const navigate = useNavigate({ from: "/resize" });
  const [typed, setTyped] = useState("");
  const output = typed.trim();
  const write = useMutation({
    mutationFn: () =>
      take(api.POST("/api/v1/jobs", { body: { kind: "resize", adapter: id, options, ...(output ? { output } : {}) } })),
    meta: { failure: "The resize was not started", success: "The resize is queued" },
    onSuccess: (job) => void navigate({ search: (before) => ({ ...before, job: job.id }), replace: true }),
  });
  const nothing = isCurrent && plan?.layers_changed === 0;
  const suggested = plan?.output ?? "";
  const command = plan?.command ? (output ? plan.command.replace(suggested, output) : plan.command) : null;
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
        <Button
          onClick={() => write.mutate()}
          loading={write.isPending}
          disabled={!isCurrent || nothing || Boolean(error)}
        >
          {isCurrent && plan ? `Write ${bytes(plan.size_after)}` : "Write"}
        </Button>
        {nothing && (
          <Text size="sm" role="status">
            No layer would change, so there is nothing to write.
          </Text>
        )}
        {isCurrent && <Command command={command} />}
      </Stack>
    </Paper>
  );
});
