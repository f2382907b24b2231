/** The only place that knows addresses. Types come from the server's OpenAPI document. */

import createClient from "openapi-fetch";
import { isOneFile } from "../lib/output";
import { ApiError, errorOf } from "./errors";
import type { components, paths } from "./schema";
import { session } from "./session";
import { serverVersion } from "./version";

export type Schemas = components["schemas"];
export type Job = Schemas["Job"];
/** Any of the requests that `POST /jobs` takes. */
export type JobRequest = paths["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"];
export type AdapterRow = Schemas["AdapterRow"];

/** A session that ended is renewed by the dialog, and the request is made again: no form loses what was typed. */
async function authenticated(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await fetch(request);
  serverVersion.heard(response.headers.get("x-lora-version"));
  if (response.status !== 401 || new URL(request.url).pathname.endsWith("/api/v1/session")) return response;
  await session.required();
  return authenticated(again);
}

export const api = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? "/",
  credentials: "same-origin",
  fetch: authenticated,
});

interface Outcome<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

/** The data of a reply, or its error thrown. */
export async function take<Data>(pending: Promise<Outcome<Data>>): Promise<Data> {
  const { data, error, response } = await pending;
  if (!response.ok) {
    const info = (error as { error?: Schemas["ErrorInfo"] } | undefined)?.error;
    throw info
      ? new ApiError(response.status, info, response.headers.get("x-request-id"))
      : new ApiError(response.status, {});
  }
  return data as Data;
}

/**
 * The answer of a question that a job works out: the server replies 202 with the job until it is there. `ask` waits up
 * to `wait` seconds on the server's side; a question that was answered before is not worked out again.
 */
export async function answered<Data>(
  ask: (wait: number) => Promise<Outcome<Data | Job>>,
  signal?: AbortSignal,
  onJob?: (job: Job) => void,
): Promise<Data> {
  for (let wait = 2; ; wait = 20) {
    const outcome = await ask(wait);
    const data = await take(Promise.resolve(outcome));
    if (outcome.response.status !== 202) return data as Data;
    const job = data as Job;
    onJob?.(job);
    if (["failed", "cancelled", "interrupted"].includes(job.state)) {
      throw new ApiError(
        409,
        job.error ?? { code: job.state, message: `the job that works this out was ${job.state}` },
      );
    }
    signal?.throwIfAborted();
  }
}

/** Bytes of a reply, for the binary form of spectra; 202 as with `answered`. */
export async function bytesOf(path: string, signal?: AbortSignal, onJob?: (job: Job) => void): Promise<ArrayBuffer> {
  for (let wait = 2; ; wait = 20) {
    const request = new Request(`${path}?wait=${wait}`, {
      headers: { accept: "application/octet-stream" },
      credentials: "same-origin",
      signal,
    });
    const response = await authenticated(request);
    if (response.status === 200) return response.arrayBuffer();
    if (response.status !== 202) throw await errorOf(response);
    const job = (await response.json()) as Job;
    onJob?.(job);
    if (["failed", "cancelled", "interrupted"].includes(job.state)) {
      throw new ApiError(
        409,
        job.error ?? { code: job.state, message: `the job that works this out was ${job.state}` },
      );
    }
  }
}

/** An upload tells how far it is, which fetch cannot. */
export function upload(
  file: File,
  onProgress: (fraction: number) => void,
  signal?: AbortSignal,
): Promise<AdapterRow | Job> {
  const send = () =>
    new Promise<AdapterRow | Job>((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", `/api/v1/uploads?name=${encodeURIComponent(file.name)}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.responseType = "json";
      request.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
      request.onload = () => {
        if (request.status === 201 || request.status === 202) resolve(request.response as AdapterRow | Job);
        else
          reject(
            new ApiError(request.status, request.response?.error ?? {}, request.getResponseHeader("x-request-id")),
          );
      };
      request.onerror = () => reject(new TypeError("network"));
      request.onabort = () => reject(new ApiError(0, { code: "cancelled", message: "the upload was stopped" }));
      signal?.addEventListener("abort", () => request.abort(), { once: true });
      request.send(file);
    });
  return send().catch(async (error) => {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    await session.required();
    return send();
  });
}

export const fileAddress = (id: string, name?: string) =>
  `/api/v1/adapters/${id}/file${name ? `?name=${encodeURIComponent(name)}` : ""}`;

export const resultAddress = (job: string) => `/api/v1/jobs/${job}/result`;

/** What a finished job left to download: the file it wrote, or its page. A folder is several files. */
export function downloadOf(job: Job): string | null {
  if (job.kind === "report") return job.has_result ? resultAddress(job.id) : null;
  return job.outputs[0] && isOneFile(job) ? fileAddress(job.outputs[0]) : null;
}

/** The stream of events about all jobs; the cookie opens it. */
export const EVENTS = "/api/v1/events";
