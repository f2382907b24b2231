import { Button, Group, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconAlertTriangle, IconCheck } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { detailsOf, messageOf } from "../api/errors";

/** Success is polite and goes away by itself. */
export function succeeded(title: string, message: ReactNode = null, actions?: ReactNode, id?: string): void {
  notifications.show({
    id,
    title,
    role: "status",
    color: "teal",
    icon: <IconCheck size={18} aria-hidden />,
    autoClose: actions ? 15_000 : 5_000,
    message: (
      <>
        {message}
        {actions && (
          <Group gap="xs" mt={6}>
            {actions}
          </Group>
        )}
      </>
    ),
  });
}

/** A failure stays until it was read, and can be copied with what a report needs. */
export function failed(title: string, error: unknown, actions?: ReactNode, id?: string): void {
  notifications.show({
    id,
    title,
    role: "alert",
    color: "red",
    icon: <IconAlertTriangle size={18} aria-hidden />,
    autoClose: false,
    message: (
      <>
        <Text size="sm" inherit className="breakable">
          {messageOf(error)}
        </Text>
        <Group gap="xs" mt={6}>
          {actions}
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => void navigator.clipboard.writeText(`${title}\n${detailsOf(error)}`)}
          >
            Copy details
          </Button>
        </Group>
      </>
    ),
  });
}
