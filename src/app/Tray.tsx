import { ActionIcon, Button, Group, Text } from "@mantine/core";
import { IconChevronLeft, IconChevronRight, IconX } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useSyncExternalStore } from "react";
import { CombineButtons } from "../components/LoraAnalysis/CombineButtons";
import { printable } from "../lib/format";
import { tray } from "../lib/tray";

export function useTray() {
  return useSyncExternalStore(tray.subscribe, tray.get);
}

export function Tray() {
  const pinned = useTray();
  const navigate = useNavigate();
  const ids = pinned.map(({ id }) => id);
  return (
    <Group h="100%" px="md" gap="sm" wrap="nowrap" role="region" aria-label="Pinned adapters">
      <Text size="sm" c="dimmed" className="nowrap">
        Pinned
      </Text>
      <ul className="chips">
        {pinned.map((one, at) => (
          <li key={one.id} className="chip">
            {at > 0 && (
              <ActionIcon
                size="xs"
                variant="transparent"
                color="gray"
                aria-label={`Move ${one.name} to the left`}
                onClick={() => tray.move(one.id, -1)}
              >
                <IconChevronLeft size={14} aria-hidden />
              </ActionIcon>
            )}
            <button
              type="button"
              className="link"
              title={printable(one.name)}
              onClick={() => void navigate({ to: "/inspect", search: { id: one.id } })}
            >
              {printable(one.name)}
            </button>
            {at < pinned.length - 1 && (
              <ActionIcon
                size="xs"
                variant="transparent"
                color="gray"
                aria-label={`Move ${one.name} to the right`}
                onClick={() => tray.move(one.id, 1)}
              >
                <IconChevronRight size={14} aria-hidden />
              </ActionIcon>
            )}
            <ActionIcon
              size="xs"
              variant="transparent"
              color="gray"
              aria-label={`Unpin ${one.name}`}
              onClick={() => tray.unpin(one.id)}
            >
              <IconX size={14} aria-hidden />
            </ActionIcon>
          </li>
        ))}
      </ul>
      <Group gap="xs" wrap="nowrap" ml="auto">
        <CombineButtons ids={ids} />
        <Button size="compact-sm" variant="subtle" color="gray" onClick={tray.clear}>
          Clear
        </Button>
      </Group>
    </Group>
  );
}
