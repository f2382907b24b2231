import { Button, Modal, PasswordInput, Stack, Text } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState, useSyncExternalStore } from "react";
import { api, take } from "../api/client";
import { ApiError, messageOf } from "../api/errors";
import { health } from "../api/queries";
import { session } from "../api/session";

/** Over the page, never instead of it: what was typed below is still there after logging in. */
export function LoginDialog() {
  const needed = useSyncExternalStore(session.subscribe, session.isNeeded);
  const { data } = useQuery({ ...health, enabled: needed });
  const [secret, setSecret] = useState("");
  const hasPassword = data?.login.password ?? false;
  const login = useMutation({
    mutationFn: async () => {
      const asToken = { token: secret.trim() };
      const asPassword = { password: secret };
      return take(api.POST("/api/v1/session", { body: hasPassword ? { ...asToken, ...asPassword } : asToken }));
    },
    meta: { failure: "You are not logged in", success: "Logged in" },
    onSuccess: () => {
      setSecret("");
      session.opened();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    login.mutate();
  };
  const wrong = login.error instanceof ApiError ? messageOf(login.error) : login.error ? messageOf(login.error) : null;
  return (
    <Modal
      opened={needed}
      onClose={() => {}}
      withCloseButton={false}
      closeOnEscape={false}
      closeOnClickOutside={false}
      title="Log in to go on"
      centered
    >
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">
            This server does not know this page any more; it may have been started anew. What you were doing goes on
            after logging in.
          </Text>
          <PasswordInput
            label={hasPassword ? "Token or password" : "Token"}
            description="The token is in the address that `lora serve` printed, after ?token="
            value={secret}
            onChange={(event) => setSecret(event.currentTarget.value)}
            error={wrong}
            autoComplete="current-password"
            data-autofocus
            required
          />
          <Button type="submit" loading={login.isPending} disabled={secret.trim() === ""}>
            Log in
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}
