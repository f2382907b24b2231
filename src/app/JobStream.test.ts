import { expect, it } from "vitest";
import type { Job } from "../api/client";
import { withJob, withProgress } from "./JobStream";

const job = (id: string, state: Job["state"]) =>
  ({ id, state, progress: { done: 0, total: null, unit: null, fraction: null } }) as Job;

it("a new job comes first, a known one stays where it is", () => {
  const known = [job("b", "running"), job("a", "succeeded")];
  expect(withJob(known, job("c", "queued")).map(({ id }) => id)).toEqual(["c", "b", "a"]);
  expect(withJob(known, job("a", "failed")).map(({ id, state }) => `${id} ${state}`)).toEqual([
    "b running",
    "a failed",
  ]);
  expect(withJob(undefined, job("a", "queued"))).toHaveLength(1);
});

it("progress changes its own job only", () => {
  const [first, second] = withProgress([job("a", "running"), job("b", "running")], {
    id: "b",
    done: 3,
    total: 4,
    unit: "layers",
  })!;
  expect(first!.progress.done).toBe(0);
  expect(second!.progress).toEqual({ done: 3, total: 4, unit: "layers", fraction: 0.75 });
});
