import { Group, Stack, Title } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { JobPanel } from "./JobPanel";

interface ScreenProps {
  title: string;
  /** What it is about, chosen beside the title. */
  head?: ReactNode;
  children: ReactNode;
}

/** A screen that starts jobs: its title, what it is about, and the job that was started from it last. */
export function Screen({ title, head, children }: ScreenProps) {
  return (
    <Stack gap="md">
      <Group align="flex-end" gap="lg">
        <Title order={1} size="h3">
          {title}
        </Title>
        {head}
      </Group>
      {children}
      <ShownJob />
    </Stack>
  );
}

/** The job of the address, until it is put away. */
export function ShownJob() {
  const { job, hide } = useShownJob();
  return job ? <JobPanel id={job} onClose={hide} /> : null;
}

/** The job that a screen shows stands in its address, so it is there after a reload. */
export function useShownJob() {
  const { job } = useSearch({ strict: false });
  const navigate = useNavigate();
  const set = (next: string | undefined) =>
    void navigate({ to: ".", search: (before) => ({ ...before, job: next }), replace: true });
  return { job, show: (id: string) => set(id), hide: () => set(undefined) };
}
