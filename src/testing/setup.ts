import { afterEach } from "vitest";

if (typeof window !== "undefined") {
  await import("@testing-library/jest-dom/vitest");
  const { cleanup, configure } = await import("@testing-library/react");
  afterEach(cleanup);
  configure({ asyncUtilTimeout: 20_000 }); // the default, one second, is a busy machine's pause

  // jsdom lacks what Mantine asks the browser for; these answer "no" and "nothing observed".
  window.matchMedia ??= ((query: string) => ({
    matches: false,
    media: query,
    onchange: null,
    addEventListener() {},
    removeEventListener() {},
    addListener() {},
    removeListener() {},
    dispatchEvent: () => false,
  })) as unknown as typeof window.matchMedia;
  globalThis.ResizeObserver ??= class {
    observe() {}
    unobserve() {}
    disconnect() {}
  };
  // A canvas without pixels: what is drawn on it is tested as numbers in src/lib/raster.
  HTMLCanvasElement.prototype.getContext = (() => null) as never;
}
