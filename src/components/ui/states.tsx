import { Alert, Button, Center, Loader, Progress, Stack, Text, Title } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { detailsOf, messageOf } from "../../api/errors";

/** Waiting, with how far it is where that is known. */
export function Waiting({ what, done, total }: { what: string; done?: number; total?: number | null }) {
  return (
    <Center mih={180} role="status">
      <Stack align="center" gap="xs" w={280}>
        <Loader size="sm" aria-hidden />
        <Text size="sm" c="dimmed" ta="center">
          {what}
          {done !== undefined && total ? ` · ${done.toLocaleString("en-US")} of ${total.toLocaleString("en-US")}` : ""}
        </Text>
        {done !== undefined && total ? <Progress w="100%" value={(100 * done) / total} aria-label={what} /> : null}
      </Stack>
    </Center>
  );
}

/** Nothing here yet, and what to do about it. */
export function Empty({ title, children, icon }: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <Center mih={260}>
      <Stack align="center" gap="sm" maw={480} ta="center">
        {icon}
        <Title order={2} size="h4">
          {title}
        </Title>
        {children}
      </Stack>
    </Center>
  );
}

export function ErrorState({
  error,
  title = "That did not work",
  retry,
}: {
  error: unknown;
  title?: string;
  retry?: () => void;
}) {
  return (
    <Alert color="red" variant="light" title={title} icon={<IconAlertTriangle aria-hidden />} role="alert" my="sm">
      <Text size="sm" className="breakable" c="var(--mantine-color-text)">
        {messageOf(error)}
      </Text>
      <Button.Group mt="sm">
        {retry && (
          <Button size="compact-sm" variant="default" onClick={retry}>
            Try again
          </Button>
        )}
        <Button
          size="compact-sm"
          variant="default"
          onClick={() => void navigator.clipboard.writeText(detailsOf(error))}
        >
          Copy details
        </Button>
      </Button.Group>
    </Alert>
  );
}

export function NotFound() {
  return (
    <Empty title="There is no such page">
      <Text size="sm">The rail on the left has all there are.</Text>
    </Empty>
  );
}
