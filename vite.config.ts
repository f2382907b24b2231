/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import about from "./package.json" with { type: "json" };

// In development the API runs beside Vite: `lora serve demo-library --port 8777`.
const server = process.env.LORA_SERVER ?? "http://127.0.0.1:8777";

export default defineConfig({
  plugins: [react()],
  define: { __LORA_VERSION__: JSON.stringify(about.version) },
  build: {
    outDir: "dist",
    sourcemap: false,
    target: "es2022",
    // Browsers that know light-dark(); older ones would need it rewritten for every scheme.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The Content-Security-Policy allows no inline script and no data: script; assets stay files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  server: { proxy: { "/api": { target: server, changeOrigin: false } } },
  test: {
    // Components ask for jsdom in their first line; pure functions need none.
    environment: "node",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["src/testing/setup.ts"],
    css: false,
    restoreMocks: true,
    // No test is about how long a click takes to simulate: these end one that hangs, on a busy machine too.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
