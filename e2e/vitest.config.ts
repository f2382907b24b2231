import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["e2e/**/*.e2e.ts"],
    environment: "node",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Each step goes on where the last one stopped, as a person would.
    sequence: { concurrent: false },
    bail: 0,
  },
});
