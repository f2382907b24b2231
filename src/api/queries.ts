/** What the screens ask the server. Keys say what an answer depends on; a file's revision changes its answers. */

import { keepPreviousData, queryOptions, useQuery } from "@tanstack/react-query";
import type { SizeModel } from "../lib/size";
import { decodeSpectra } from "../lib/spectra";
import { answered, api, bytesOf, type Job, type Schemas, take } from "./client";

export type LibraryFilters = {
  q?: string;
  root?: string[];
  base_model?: string[];
  algorithm?: string[];
  dialect?: string[];
  trainer?: string[];
  dtype?: string[];
  container?: string[];
  problems?: string[];
  tag?: string[];
  all_tags?: boolean;
  rank_min?: number;
  rank_max?: number;
  sort?: string;
  descending?: boolean;
};

const FOREVER = { staleTime: Number.POSITIVE_INFINITY, gcTime: 15 * 60_000 };

export const libraryPage = (filters: LibraryFilters, offset: number, limit: number) =>
  queryOptions({
    queryKey: ["library", filters, offset, limit],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/adapters", { params: { query: { ...filters, offset, limit } as never }, signal })),
    placeholderData: keepPreviousData,
    meta: { what: "The library" },
  });

export const adapterRow = (id: string) =>
  queryOptions({
    queryKey: ["adapter", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/adapters/{id}", { params: { path: { id } }, signal })),
    staleTime: 30_000,
  });

/** Base weights in the served folders. A scan changes them, and a bake. */
export const checkpoints = queryOptions({
  queryKey: ["library", "checkpoints"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/checkpoints", { signal })),
  staleTime: 30_000,
});

export const baseSpectrum = (id: string, base: string) =>
  queryOptions({
    queryKey: ["base-spectrum", id, base],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.GET("/api/v1/adapters/{id}/base-spectrum", { params: { path: { id }, query: { base, wait } }, signal }),
        signal,
      ) as Promise<Schemas["BaseSpectrum"]>,
    enabled: Boolean(base),
    retry: false,
    ...FOREVER,
  });

export const metadata = (id: string) =>
  queryOptions({
    queryKey: ["metadata", id],
    queryFn: ({ signal }) =>
      answered(
        (wait) => api.GET("/api/v1/adapters/{id}/metadata", { params: { path: { id }, query: { wait } }, signal }),
        signal,
      ) as Promise<Schemas["Inspection"]>,
    ...FOREVER,
  });

export const layers = (id: string) =>
  queryOptions({
    queryKey: ["layers", id],
    queryFn: ({ signal }) =>
      answered(
        (wait) => api.GET("/api/v1/adapters/{id}/layers", { params: { path: { id }, query: { wait } }, signal }),
        signal,
      ) as Promise<Schemas["LayerList"]>,
    ...FOREVER,
  });

export const spectra = (id: string, onJob?: (job: Job) => void) =>
  queryOptions({
    queryKey: ["spectra", id],
    queryFn: async ({ signal }) => decodeSpectra(await bytesOf(`/api/v1/adapters/${id}/spectra`, signal, onJob)),
    ...FOREVER,
  });

export const roots = queryOptions({
  queryKey: ["roots"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/roots", { signal })),
});

export const skippedFiles = queryOptions({
  queryKey: ["skipped"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/skipped", { signal })),
});

export const serverInfo = queryOptions({
  queryKey: ["info"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/info", { signal })),
  ...FOREVER,
});

export const health = queryOptions({
  queryKey: ["health"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/health", { signal })),
  ...FOREVER,
});

/**
 * Of what is known of a job and what comes, whatever is further along. A job goes one way, from waiting over running to
 * its end; but a reply that left the server before an event may arrive after it, and must not take that back.
 */
export function furthest(known: Job[] | undefined, next: Job[]): Job[] {
  const before = new Map(known?.map((job) => [job.id, job]));
  return next.map((job) => {
    const other = before.get(job.id);
    return other && stage(other) > stage(job) ? other : job;
  });
}

const stage = (job: Job) => (job.finished_at !== null ? 3 : job.cancelling ? 2 : job.started_at !== null ? 1 : 0);

export const jobs = queryOptions({
  queryKey: ["jobs"],
  queryFn: async ({ signal }) =>
    (await take(api.GET("/api/v1/jobs", { params: { query: { limit: 200 } }, signal }))).items,
  // The stream of events keeps this list; see JobStream.
  staleTime: Number.POSITIVE_INFINITY,
  structuralSharing: (known, next) => furthest(known as Job[] | undefined, next as Job[]),
});

export const jobResult = (id: string, enabled = true) =>
  queryOptions({
    queryKey: ["result", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/jobs/{id}/result", { params: { path: { id } }, signal })),
    enabled,
    ...FOREVER,
  });

export const resizePlan = (
  adapter: string,
  options: Schemas["ResizeOptions"],
  base: string | undefined,
  enabled: boolean,
) =>
  queryOptions({
    queryKey: ["plan-resize", adapter, options, base],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/plans/resize", {
            params: { query: { wait } },
            body: { adapter, options, predict: true, ...(base ? { base } : {}) },
            signal,
          }),
        signal,
      ) as Promise<Schemas["ResizePlan"]>,
    placeholderData: keepPreviousData,
    enabled,
    retry: false,
    ...FOREVER,
  });

export const mergePlan = (
  inputs: Schemas["MergeInput"][],
  options: Schemas["MergeOptions"],
  base: string | undefined,
  enabled: boolean,
) =>
  queryOptions({
    queryKey: ["plan-merge", inputs, options, base],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/plans/merge", {
            params: { query: { wait } },
            body: { inputs, options, predict: true, ...(base ? { base } : {}) },
            signal,
          }),
        signal,
      ) as Promise<Schemas["MergePlan"]>,
    placeholderData: keepPreviousData,
    enabled,
    retry: false,
    ...FOREVER,
  });

/** With everything left out that the dialect cannot say: the plan then lists it. */
export const convertPlan = (adapter: string, options: Schemas["ConvertOptions"]) =>
  queryOptions({
    queryKey: ["plan-convert", adapter, options],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/plans/convert", {
            params: { query: { wait } },
            body: { adapter, options: { ...options, drop: true } },
            signal,
          }),
        signal,
      ) as Promise<Schemas["ConvertPlan"]>,
    placeholderData: keepPreviousData,
    retry: false,
    ...FOREVER,
  });

/** With everything left out that has no place in the checkpoint: the plan then lists it. */
export const bakePlan = (base: string, inputs: Schemas["BakeInput"][]) =>
  queryOptions({
    queryKey: ["plan-bake", base, inputs],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/plans/bake", {
            params: { query: { wait } },
            body: { base, inputs, options: { drop: true } },
            signal,
          }),
        signal,
      ) as Promise<Schemas["BakePlan"]>,
    enabled: inputs.length > 0,
    placeholderData: keepPreviousData,
    retry: false,
    ...FOREVER,
  });

export const extractPlan = (tuned: string, base: string, options: Schemas["ExtractOptions"]) =>
  queryOptions({
    queryKey: ["plan-extract", tuned, base, options],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/plans/extract", { params: { query: { wait } }, body: { tuned, base, options }, signal }),
        signal,
      ) as Promise<Schemas["ExtractPlan"]>,
    enabled: Boolean(tuned && base),
    placeholderData: keepPreviousData,
    retry: false,
    ...FOREVER,
  });

export const comparison = (adapters: string[], enabled: boolean) =>
  queryOptions({
    queryKey: ["comparison", adapters],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/comparisons", { params: { query: { wait } }, body: { adapters, layers: [] }, signal }),
        signal,
      ) as Promise<Comparison>,
    enabled,
    retry: false,
    ...FOREVER,
  });

/** docs/compare.md defines every figure. */
export type Comparison = Schemas["Comparison"];

export const sizeModel = (id: string, dtype: string, alpha: string) =>
  queryOptions({
    queryKey: ["size-model", id, dtype, alpha],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.GET("/api/v1/adapters/{id}/size-model", {
            params: { path: { id }, query: { dtype, alpha, wait } as never },
            signal,
          }),
        signal,
      ) as unknown as Promise<SizeModel>,
    placeholderData: keepPreviousData,
    ...FOREVER,
  });

export const pca = (adapter: string, target: "factors" | "delta") =>
  queryOptions({
    queryKey: ["pca", adapter, target],
    queryFn: ({ signal }) =>
      answered(
        (wait) =>
          api.POST("/api/v1/pca", {
            params: { query: { wait } },
            body: { adapter, target, components: 8, layers: [], arrays: false },
            signal,
          }),
        signal,
      ) as Promise<Schemas["Pca"]>,
    retry: false,
    ...FOREVER,
  });

export const mergeMethods = queryOptions({
  queryKey: ["merge-methods"],
  queryFn: ({ signal }) => take(api.GET("/api/v1/merge-methods", { signal })),
  ...FOREVER,
});

export function useJob(id: string | null): Job | null {
  const { data } = useQuery(jobs);
  return (id && data?.find((job) => job.id === id)) || null;
}

/** A question that a job works out, with how far that job is: it is the newest that has not finished, of its kind. */
export function useAnalysis<Options extends { queryKey: readonly unknown[] }>(options: Options) {
  const query = useQuery(options as never);
  const { data } = useQuery(jobs);
  const kind = String(options.queryKey[0]);
  const wanted = kind === "comparison" ? "compare" : kind;
  const job = query.isFetching ? data?.find((one) => one.kind === wanted && one.finished_at === null) : undefined;
  return { ...query, progress: job?.progress };
}
