import { notificationsStore } from "@mantine/notifications";
import { useIsFetching } from "@tanstack/react-query";
import { useRouterState } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { session } from "../api/session";

const LoginDialog = lazy(() => import("./LoginDialog").then(({ LoginDialog: dialog }) => ({ default: dialog })));
const Notifications = lazy(() => import("./NoticeList"));

/**
 * What the first screen does without. It is fetched when that screen is complete, or at once where it is needed; not
 * only where it is needed, because the notification that the server has gone could then not be fetched any more.
 */
export function Later() {
  const quiet = useQuiet();
  const told = useSyncExternalStore(notificationsStore.subscribe, isSomethingTold);
  const refused = useSyncExternalStore(session.subscribe, session.isNeeded);
  return (
    <Suspense>
      {useOnce(quiet || told) && <Notifications position="top-right" limit={4} />}
      {useOnce(quiet || refused) && <LoginDialog />}
    </Suspense>
  );
}

function isSomethingTold(): boolean {
  return notificationsStore.getState().notifications.length > 0;
}

/** True from the first time on that it was. */
function useOnce(now: boolean): boolean {
  const was = useRef(false);
  was.current ||= now;
  return was.current;
}

/** True from a second on in which neither a screen nor an answer was on its way. */
function useQuiet(): boolean {
  const isLoading = useRouterState({ select: ({ status }) => status === "pending" });
  const isBusy = useIsFetching() > 0 || isLoading;
  const [quiet, setQuiet] = useState(false);
  useEffect(() => {
    if (isBusy) return;
    const timer = setTimeout(() => setQuiet(true), 1_000);
    return () => clearTimeout(timer);
  }, [isBusy]);
  return quiet;
}
