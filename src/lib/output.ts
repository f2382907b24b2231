/** Whether a job wrote one file, which can be downloaded; an adapter that is a folder is several. */
export function isOneFile(job: { params: Record<string, unknown> }): boolean {
  return /\.[A-Za-z]{2,12}$/.test(String(job.params.output ?? ""));
}

/** Whether a job's result is a JSON document; spectra are binary, a report is a page, a figure a picture. */
export function isDocument(job: { kind: string }): boolean {
  return !["spectra", "report", "figure"].includes(job.kind);
}
