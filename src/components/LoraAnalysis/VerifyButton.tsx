import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { api, take } from "../../api/client";

/** Reads the whole file in a job: hashes, and every value for NaN and infinity. */
export function VerifyButton({ id }: { id: string }) {
  const verify = useMutation({
    mutationFn: () => take(api.POST("/api/v1/jobs", { body: { kind: "verify", adapter: id } })),
    meta: { failure: "The check could not be started", success: "Checking every value; the job says what was found" },
  });
  return (
    <Button size="sm" variant="default" loading={verify.isPending} onClick={() => verify.mutate()}>
      Check values
    </Button>
  );
}
