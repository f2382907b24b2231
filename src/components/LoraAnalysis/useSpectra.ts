import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Job } from "../../api/client";
import { spectra, useJob } from "../../api/queries";

/** An adapter's spectra, and how far the job is that works them out. */
export function useSpectra(id: string | undefined) {
  const [job, setJob] = useState<Job | null>(null);
  const query = useQuery({ ...spectra(id ?? "", setJob), enabled: Boolean(id) });
  const live = useJob(job?.id ?? null) ?? job;
  return { ...query, progress: live?.progress };
}
