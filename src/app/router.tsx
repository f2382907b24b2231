import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { ErrorState, NotFound } from "../components/ui/states";
import * as read from "../lib/search";
import { Shell } from "./Shell";

type Unread = Record<string, unknown>;

/** Every part of a screen's state may be absent. */
function state<State extends object>(reader: (search: Unread) => State): (search: Unread) => Partial<State> {
  return reader;
}

const root = createRootRoute({
  component: Shell,
  notFoundComponent: NotFound,
  errorComponent: ({ error }) => <ErrorState error={error} />,
});

const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/library", replace: true });
  },
});

const library = createRoute({
  getParentRoute: () => root,
  path: "/library",
  validateSearch: state((s) => ({
    q: read.text(s, "q"),
    root: read.list(s, "root"),
    base_model: read.list(s, "base_model"),
    algorithm: read.list(s, "algorithm"),
    dialect: read.list(s, "dialect"),
    trainer: read.list(s, "trainer"),
    dtype: read.list(s, "dtype"),
    problems: read.list(s, "problems"),
    tag: read.list(s, "tag"),
    all_tags: read.flag(s, "all_tags"),
    rank_min: read.integer(s, "rank_min", 0),
    rank_max: read.integer(s, "rank_max", 0),
    sort: read.text(s, "sort"),
    descending: read.flag(s, "descending"),
    id: read.id(s, "id"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Library")),
});

export const INSPECT_TABS = ["overview", "tags", "modules", "metadata", "health"] as const;

const inspect = createRoute({
  getParentRoute: () => root,
  path: "/inspect",
  validateSearch: state((s) => ({
    id: read.id(s, "id"),
    local: read.flag(s, "local"),
    tab: read.oneOf(s, "tab", INSPECT_TABS),
    find: read.text(s, "find"),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Inspect")),
});

export const SPECTRUM_TABS = ["spectrum", "pca", "base"] as const;

const spectrum = createRoute({
  getParentRoute: () => root,
  path: "/spectrum",
  validateSearch: state((s) => ({
    id: read.id(s, "id"),
    layer: read.list(s, "layer"),
    measure: read.oneOf(s, "measure", ["relative", "absolute", "energy"] as const),
    component: read.text(s, "component"),
    rank: read.integer(s, "rank", 1),
    tab: read.oneOf(s, "tab", SPECTRUM_TABS),
    base: read.id(s, "base"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/PcaAnalysis")),
});

const resize = createRoute({
  getParentRoute: () => root,
  path: "/resize",
  validateSearch: state((s) => ({
    id: read.id(s, "id"),
    rule: read.text(s, "rule"),
    value: read.decimal(s, "value", 0),
    dtype: read.text(s, "dtype"),
    alpha: read.text(s, "alpha"),
    max_rank: read.integer(s, "max_rank", 1),
    recipe: read.text(s, "recipe"),
    base: read.id(s, "base"),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/LoraResizer")),
});

export const CONVERT_TARGETS = ["kohya", "peft", "diffusers", "comfyui"] as const;

const convert = createRoute({
  getParentRoute: () => root,
  path: "/convert",
  validateSearch: state((s) => ({
    id: read.id(s, "id"),
    to: read.oneOf(s, "to", CONVERT_TARGETS),
    dtype: read.text(s, "dtype"),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Convert")),
});

const merge = createRoute({
  getParentRoute: () => root,
  path: "/merge",
  validateSearch: state((s) => ({
    ids: read.ids(s, "ids"),
    weights: read.list({ weights: s.weights }, "weights") && [s.weights].flat().map(String),
    method: read.text(s, "method"),
    base: read.id(s, "base"),
    rank: read.integer(s, "rank", 1),
    dtype: read.text(s, "dtype"),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Merge")),
});

const bake = createRoute({
  getParentRoute: () => root,
  path: "/bake",
  validateSearch: state((s) => ({
    base: read.id(s, "base"),
    ids: read.ids(s, "ids"),
    weights: read.list({ weights: s.weights }, "weights") && [s.weights].flat().map(String),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Bake")),
});

export const EXTRACT_RULES = ["rank", "energy", "error", "size"] as const;

const extract = createRoute({
  getParentRoute: () => root,
  path: "/extract",
  validateSearch: state((s) => ({
    tuned: read.id(s, "tuned"),
    base: read.id(s, "base"),
    rule: read.oneOf(s, "rule", EXTRACT_RULES),
    value: read.decimal(s, "value", 0),
    to: read.oneOf(s, "to", CONVERT_TARGETS),
    dtype: read.text(s, "dtype"),
    norms: read.flag(s, "norms"),
    job: read.id(s, "job"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Extract")),
});

const compare = createRoute({
  getParentRoute: () => root,
  path: "/compare",
  validateSearch: state((s) => ({
    ids: read.ids(s, "ids", 8),
    all: read.flag(s, "all"),
    pair: read.integer(s, "pair", 0),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Compare")),
});

const jobs = createRoute({
  getParentRoute: () => root,
  path: "/jobs",
  validateSearch: state((s) => ({
    job: read.id(s, "job"),
    state: read.list(s, "state"),
    analyses: read.flag(s, "analyses"),
  })),
  component: lazyRouteComponent(() => import("../components/LoraAnalysis/Jobs")),
});

export const router = createRouter({
  routeTree: root.addChildren([
    index,
    library,
    inspect,
    spectrum,
    resize,
    merge,
    convert,
    bake,
    extract,
    compare,
    jobs,
  ]),
  parseSearch: (text) => read.parseSearch(text),
  stringifySearch: (search) => read.stringifySearch(search),
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
