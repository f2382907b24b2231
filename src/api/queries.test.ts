import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { expect, it } from "vitest";
import type { Job } from "./client";
import { furthest, jobs } from "./queries";

const job = (id: string, state: Job["state"], cancelling = false) =>
  ({
    id,
    state,
    cancelling,
    started_at: state === "queued" ? null : "2026-01-01T00:00:01Z",
    finished_at: state === "queued" || state === "running" ? null : "2026-01-01T00:00:02Z",
  }) as Job;

it("nothing that comes late takes back how far a job is", () => {
  const known = [job("a", "succeeded"), job("b", "running"), job("c", "running", true)];
  const late = [job("d", "queued"), job("a", "queued"), job("b", "queued"), job("c", "running")];
  expect(furthest(known, late).map((one) => `${one.id} ${one.state} ${one.cancelling}`)).toEqual([
    "d queued false",
    "a succeeded false",
    "b running false",
    "c running true",
  ]);
  expect(furthest(known, [job("c", "cancelled")])).toEqual([job("c", "cancelled")]);
  expect(furthest(undefined, late)).toEqual(late);
});

it("an answer that was under way when an event came does not undo the event", async () => {
  const client = new QueryClient();
  let answer: (jobs: Job[]) => void = () => {};
  const asked = new QueryObserver(client, {
    ...jobs,
    queryFn: () => new Promise<Job[]>((done) => (answer = done)),
  });
  const stop = asked.subscribe(() => {});
  client.setQueryData(jobs.queryKey, [job("a", "succeeded")]);
  answer([job("b", "running"), job("a", "running")]);
  await expect.poll(() => client.getQueryData(jobs.queryKey)?.length).toBe(2);
  expect(client.getQueryData(jobs.queryKey)?.map((one) => one.state)).toEqual(["running", "succeeded"]);
  stop();
});
