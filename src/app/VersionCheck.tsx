import { Button, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconRefresh } from "@tabler/icons-react";
import { useEffect, useSyncExternalStore } from "react";
import { BUILT_FOR, serverVersion } from "../api/version";

/** Offers to reload where the server is of another version than this page. It never reloads by itself: forms are open. */
export function VersionCheck() {
  const other = useSyncExternalStore(serverVersion.subscribe, serverVersion.other);
  useEffect(() => {
    if (other === null) {
      notifications.hide("version");
      return;
    }
    notifications.show({
      id: "version",
      title: `The server is version ${other}, this page is ${BUILT_FOR}`,
      role: "alert",
      color: "orange",
      icon: <IconRefresh size={18} aria-hidden />,
      autoClose: false,
      message: (
        <>
          <Text size="sm" inherit>
            What you see may not fit what it answers. If this comes back after reloading, the pages were not built anew
            with the server: make ui.
          </Text>
          <Button size="compact-xs" variant="default" mt={6} onClick={() => window.location.reload()}>
            Reload
          </Button>
        </>
      ),
    });
  }, [other]);
  return null;
}
