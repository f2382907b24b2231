/** What went wrong with a request, in the server's words. */

import type { components } from "./schema";

export type ErrorInfo = components["schemas"]["ErrorInfo"];

export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly fields: { field: string; message: string }[];
  readonly install: string | null;
  readonly requestId: string | null;

  constructor(status: number, info: Partial<ErrorInfo>, requestId: string | null = null) {
    super(info.message || `the server answered ${status}`);
    this.status = status;
    this.code = info.code ?? "unknown";
    this.fields = info.fields ?? [];
    this.install = info.install ?? null;
    this.requestId = requestId;
  }
}

export async function errorOf(response: Response): Promise<ApiError> {
  const requestId = response.headers.get("x-request-id");
  try {
    const body = (await response.json()) as { error?: ErrorInfo };
    return new ApiError(response.status, body.error ?? {}, requestId);
  } catch {
    return new ApiError(
      response.status,
      { message: `the server answered ${response.status} ${response.statusText}` },
      requestId,
    );
  }
}

export function messageOf(error: unknown): string {
  if (error instanceof ApiError)
    return error.install ? `${error.message}. Install it with: ${error.install}` : error.message;
  if (error instanceof TypeError) return "the server does not answer; is `lora serve` still running?";
  return error instanceof Error ? error.message : String(error);
}

/** For a bug report: everything known, nothing secret. */
export function detailsOf(error: unknown): string {
  if (!(error instanceof ApiError)) return messageOf(error);
  const fields = error.fields.map(({ field, message }) => `\n  ${field}: ${message}`).join("");
  const id = error.requestId ? `\nrequest: ${error.requestId}` : "";
  return `${error.status} ${error.code}: ${error.message}${fields}${id}`;
}
