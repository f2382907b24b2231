import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { expect } from "vitest";
import { CHROMIUM, type Running, TOKEN } from "./server";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

export interface Session {
  context: BrowserContext;
  page: Page;
  problems: string[];
}

/** A logged-in page that notes every request to another host and every error of the page. */
export async function openPage(
  browser: Browser,
  server: Running,
  scheme: "light" | "dark" = "light",
): Promise<Session> {
  const context = await browser.newContext({
    viewport: { width: 1400, height: 900 },
    colorScheme: scheme,
    reducedMotion: "reduce",
    acceptDownloads: true,
  });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol.startsWith("http") && host !== `127.0.0.1:${server.port}`)
      problems.push(`request to ${request.url()}`);
  });
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) problems.push(message.text());
  });
  await page.goto(`${server.url}/?token=${TOKEN}`);
  await page.getByRole("heading", { name: "Library" }).waitFor();
  return { context, page, problems };
}

/** What axe finds, as short lines; the whole page with everything that is open on it. */
export async function axe(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { axe: run } = window as unknown as {
      axe: {
        run: (
          where: Document,
          how: object,
        ) => Promise<{ violations: { id: string; help: string; nodes: { html: string; failureSummary: string }[] }[] }>;
      };
    };
    return (
      await run.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
    ).violations;
  });
  return found.flatMap(({ id, help, nodes }) =>
    nodes.map(
      (node) =>
        `${id}: ${help} | ${node.html.slice(0, 160)} | ${node.failureSummary.replace(/\s+/g, " ").slice(0, 200)}`,
    ),
  );
}

export async function expectAccessible(page: Page): Promise<void> {
  expect(await axe(page)).toEqual([]);
}

/** The id of an adapter of the library, through the page's own session. */
export async function idOf(page: Page, name: string): Promise<string> {
  return page.evaluate(async (wanted) => {
    const found = (await (await fetch(`/api/v1/adapters?q=${encodeURIComponent(wanted)}`)).json()) as {
      items: { id: string; name: string }[];
    };
    const row = found.items.find((one) => one.name.startsWith(wanted)) ?? found.items[0];
    if (!row) throw new Error(`${wanted} is not in the library`);
    return row.id;
  }, name);
}
