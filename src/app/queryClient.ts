import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import { ApiError } from "../api/errors";
import { failed, succeeded } from "./notices";

declare module "@tanstack/react-query" {
  interface Register {
    mutationMeta: {
      /** Title of the notification of a success; without one, the job's own end is what is told. */
      success?: string;
      /** Title of the notification of a failure. */
      failure: string;
    };
    queryMeta: { what?: string };
  }
}

function isWorthRetrying(failures: number, error: unknown): boolean {
  // The server's own answers do not get better by asking again; a lost connection may.
  return !(error instanceof ApiError) && failures < 2;
}

/** Every change is told of in one place, so that no screen can forget it. */
export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: { queries: { retry: isWorthRetrying, refetchOnWindowFocus: false, staleTime: 5_000 } },
    queryCache: new QueryCache({
      onError: (error, query) => {
        // What has no data yet shows its error in its own place; this is for what would otherwise go unnoticed.
        if (query.state.data !== undefined) failed(`${query.meta?.what ?? "An answer"} could not be refreshed`, error);
      },
    }),
    mutationCache: new MutationCache({
      onError: (error, _variables, _context, mutation) => failed(mutation.meta?.failure ?? "That did not work", error),
      onSuccess: (_data, _variables, _context, mutation) => {
        if (mutation.meta?.success) succeeded(mutation.meta.success);
      },
    }),
  });
}
