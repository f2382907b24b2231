import { Button } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { TRAY_LIMIT } from "../../lib/tray";

/** What can be done with several adapters at once. */
export function CombineButtons({ ids }: { ids: string[] }) {
  const navigate = useNavigate();
  return (
    <>
      <Button
        size="compact-sm"
        variant="default"
        disabled={ids.length < 2 || ids.length > TRAY_LIMIT}
        onClick={() => void navigate({ to: "/compare", search: { ids } })}
      >
        Compare
      </Button>
      <Button
        size="compact-sm"
        variant="default"
        disabled={ids.length < 2}
        onClick={() => void navigate({ to: "/merge", search: { ids } })}
      >
        Merge
      </Button>
    </>
  );
}
