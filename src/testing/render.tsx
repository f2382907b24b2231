import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { render } from "@testing-library/react";
import type { ReactNode } from "react";
import { makeQueryClient } from "../app/queryClient";
import { theme } from "../app/theme";

/** As the page wraps it, without animations. */
export function show(children: ReactNode) {
  const client = makeQueryClient();
  return {
    client,
    ...render(
      <MantineProvider theme={theme} env="test">
        <QueryClientProvider client={client}>
          <Notifications />
          {children}
        </QueryClientProvider>
      </MantineProvider>,
    ),
  };
}
