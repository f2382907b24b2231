import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectAccessible, idOf, openBrowser, openPage, type Session } from "./page";
import { hostile, type Running, start, TOKEN, whyNot } from "./server";

const reason = whyNot();
if (reason) console.log(`browser tests are skipped: ${reason}`);

describe.skipIf(reason)("the web UI on a real server", () => {
  let server: Running;
  let browser: Browser;
  let session: Session;

  beforeAll(async () => {
    server = await start();
    browser = await openBrowser();
    session = await openPage(browser, server);
    await session.page.getByText("sdxl-character-kohya").first().waitFor({ timeout: 30_000 });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });

  const go = async (path: string) => {
    await session.page.goto(server.url + path);
    return session.page;
  };

  it("the address with the token logs in and leaves no token behind", async () => {
    expect(session.page.url()).toBe(`${server.url}/library`);
    const [cookie] = await session.context.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
  });

  it("the first screen takes at most 210 kB of JavaScript; charts are not in it, and the login comes after it", async () => {
    const own = await browser.newContext();
    const page = await own.newPage();
    const loaded = new Map<string, number>();
    const reading: Promise<void>[] = [];
    page.on("response", (response) => {
      const name = new URL(response.url()).pathname;
      if (name.endsWith(".js"))
        reading.push(
          response.body().then(
            (body) => void loaded.set(name, gzipSync(body).length),
            (error) => {
              if (!page.isClosed()) throw error; // what comes when all was counted counts no more
            },
          ),
        );
    });
    await page.goto(`${server.url}/?token=${TOKEN}`);
    await page.getByText("sdxl-character-kohya").first().waitFor();
    await page
      .getByLabel(/^Base model: /)
      .first()
      .waitFor();
    await Promise.all(reading);
    const total = [...loaded.values()].reduce((a, b) => a + b, 0);
    console.log(`first screen: ${(total / 1000).toFixed(0)} kB of JavaScript, compressed`);
    expect(total).toBeGreaterThan(100_000);
    expect(total).toBeLessThan(210_000);
    expect([...loaded.keys()].join()).not.toMatch(/Heatmap|LineChart|ScatterChart|PcaAnalysis|LoginDialog|NoticeList/);
    // Before they are needed: a server that has gone could not give them any more.
    await expect.poll(() => [...loaded.keys()].join(), { timeout: 10_000 }).toMatch(/LoginDialog/);
    await expect.poll(() => [...loaded.keys()].join(), { timeout: 10_000 }).toMatch(/NoticeList/);
    await Promise.all(reading);
    await own.close();
  });

  it.runIf(process.env.UI_LARGE)(
    "a library of 10,000 adapters scrolls smoothly",
    async () => {
      const folder = join(server.library, "large");
      mkdirSync(folder);
      const one = hostile();
      for (let at = 0; at < 10_000; at += 1)
        writeFileSync(join(folder, `adapter-${String(at).padStart(5, "0")}.safetensors`), one);
      const page = await go("/library");
      await page.getByRole("button", { name: "Rescan" }).click();
      await page.getByText(/^10,\d\d\d adapters/).waitFor({ timeout: 300_000 });
      await page
        .getByText(/scanning/)
        .waitFor({ state: "detached", timeout: 300_000 })
        .catch(() => {});
      await page.waitForFunction(() => !document.body.textContent?.includes("so far"), null, { timeout: 300_000 });
      const slow = await page.evaluate(async () => {
        const grid = document.querySelector("[role=grid]")!;
        const frames: number[] = [];
        let last = performance.now();
        for (let at = 0; at < 240; at += 1) {
          grid.scrollTop += 120;
          await new Promise((done) => requestAnimationFrame(done));
          frames.push(performance.now() - last);
          last = performance.now();
        }
        frames.sort((a, b) => a - b);
        return [frames[120]!, frames[228]!];
      });
      console.log(`10,000 rows: median frame ${slow[0]!.toFixed(1)} ms, 95th percentile ${slow[1]!.toFixed(1)} ms`);
      // Frames come 16.7 ms apart at best; headless Chromium draws them without a GPU.
      expect(slow[0]!).toBeLessThan(process.env.CI ? 34 : 20);
    },
    400_000,
  );

  it("the library is searched, filtered and opened with the keyboard", async () => {
    const page = await go("/library");
    await page.getByLabel("Search names, tags and trigger words").fill("portrait-dora");
    await page.getByText(/^1 adapter/).waitFor();
    await page.goto(`${server.url}/library?algorithm=lokr`);
    await page.getByText(/^1 adapter/).waitFor();
    await page.getByRole("grid", { name: "Adapters" }).focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    const drawer = page.getByRole("dialog");
    await drawer.getByRole("button", { name: "Inspect" }).click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    expect(page.url()).toContain("/inspect?id=");
  });

  it("the palette and the sheet of shortcuts open from the keyboard", async () => {
    const page = await go("/library");
    await page.getByRole("heading", { name: "Library" }).click();
    await page.keyboard.press("Control+k");
    await page.getByLabel("What to open").fill("jobs");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/jobs/);
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor({ state: "hidden" });
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.waitForURL(/\/compare/);
  });

  it("a dropped file is read in the page, within 300 ms and without a request", async () => {
    const page = await go("/inspect");
    await page.getByText("What is inside?").waitFor();
    const uploads: string[] = [];
    page.on("request", (request) => request.method() === "POST" && uploads.push(request.url()));
    const transfer = await page.evaluateHandle(
      async ([address]) => {
        const found = (await (await fetch("/api/v1/adapters?q=many-layers")).json()) as { items: { id: string }[] };
        const bytes = await (await fetch(address!.replace("ID", found.items[0]!.id))).arrayBuffer();
        const data = new DataTransfer();
        data.items.add(new File([bytes], "dropped.safetensors"));
        return data;
      },
      ["/api/v1/adapters/ID/file"],
    );
    await page.evaluate(() => {
      const seen = new MutationObserver(() => {
        if (document.querySelector("[data-testid=header-time]")) {
          (window as unknown as { shownAt?: number }).shownAt ??= performance.now();
        }
      });
      seen.observe(document.body, { subtree: true, childList: true });
    });
    await page.evaluate((data) => {
      (window as unknown as { droppedAt: number }).droppedAt = performance.now();
      window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }, transfer);
    await page.getByTestId("header-time").waitFor();
    const took = await page.evaluate(() => {
      const times = window as unknown as { shownAt: number; droppedAt: number };
      return times.shownAt - times.droppedAt;
    });
    console.log(`header of 986 layers shown ${took.toFixed(0)} ms after the drop`);
    expect(took).toBeLessThan(Number(process.env.UI_HEADER_MS ?? 300) * (process.env.CI ? 3 : 1));
    expect(uploads).toEqual([]);
    await page.getByText("986", { exact: true }).first().waitFor();
    await page.getByRole("tab", { name: "Raw metadata" }).click();
    await page.getByText("ss_network_dim").waitFor();
    await page.getByRole("button", { name: "Add to the library" }).click();
    await page.waitForURL(/inspect\?id=/, { timeout: 40_000 });
    await page.getByText(/is in the library/).waitFor();
  });

  it("the spectrum's heatmap is drawn within 50 ms, walked with keys, and chooses layers", async () => {
    const id = await idOf(session.page, "many-layers");
    const page = await go(`/spectrum?id=${id}`);
    const canvas = page.locator("canvas[data-milliseconds]");
    await canvas.waitFor({ timeout: 50_000 });
    const times: number[] = [];
    for (const name of ["energy", "σ", "σ / σ₁"]) {
      await page.getByText(name, { exact: true }).first().click();
      await page.waitForTimeout(150);
      times.push(Number(await canvas.getAttribute("data-milliseconds")));
    }
    console.log(`heatmap of 986 layers redrawn in ${times.join(", ")} ms`);
    expect(Math.min(...times)).toBeLessThan(50);
    await page.getByRole("application").focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.waitForURL(/layer=/);
    await page.getByRole("button", { name: "Singular values by layer as a table" }).click();
    await page.getByRole("region", { name: /Singular values by layer, numbers/ }).waitFor();
  });

  it("principal components come from the server", async () => {
    const page = await go(`/spectrum?id=${await idOf(session.page, "sdxl-character-kohya")}&tab=pca`);
    await page.getByRole("heading", { name: "Map of layers" }).waitFor({ timeout: 40_000 });
    await page.getByText("160 matrices").waitFor();
    await page.getByRole("button", { name: "Export Map of layers" }).click();
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("menuitem", { name: "SVG drawing" }).click(),
    ]);
    expect(readFileSync(await saved.path(), "utf8")).toMatch(/^<\?xml[\s\S]*<svg/);
    expect(saved.suggestedFilename()).toBe("sdxl-character-kohya.map-of-layers.svg");
  });

  it("a resize: slider, plan, job, download, and the error as predicted", async () => {
    const page = await go(`/resize?id=${await idOf(session.page, "sdxl-character-kohya")}&value=4`);
    await page.getByRole("slider", { name: "Rank" }).waitFor();
    await page.getByTestId("plan-changed").waitFor({ timeout: 40_000 });
    await page.getByRole("slider", { name: "Rank" }).press("ArrowLeft");
    await page.getByRole("slider", { name: "Rank" }).press("ArrowLeft");
    // What the page works out at once is what the plan says a moment later.
    const atOnce = await page.getByTestId("predicted-size").getAttribute("title");
    const write = page.getByRole("button", { name: /^Write \d/ });
    await page.getByText("Numbers by the plan").waitFor({ timeout: 40_000 });
    expect(await page.getByTestId("predicted-size").getAttribute("title")).toBe(atOnce);
    await page.waitForURL(/value=2/);
    const predicted = Number.parseFloat(
      ((await page.getByTestId("predicted-error").textContent()) ?? "").replace("%", ""),
    );
    const energy = Number.parseFloat(
      ((await page.getByTestId("predicted-energy").textContent()) ?? "").replace("%", ""),
    );
    await page.getByText(/lora resize .*--rank 2/).waitFor();
    await write.click();
    await page.getByTestId("verification").waitFor({ timeout: 40_000 });
    const measured = Number.parseFloat(
      ((await page.getByTestId("measured-error").textContent()) ?? "").replace("%", ""),
    );
    expect(Math.abs(measured - predicted)).toBeLessThan(0.05);
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByTestId("verification").getByRole("link", { name: "Download" }).click(),
    ]);
    expect(`${statSync(await saved.path()).size.toLocaleString("en-US")} bytes`).toBe(atOnce);
    await page.getByTestId("verification").getByRole("button", { name: "Compare with original" }).click();
    // The comparison counts every layer, so it is held to the energy of the whole adapter.
    const text = (await page.getByTestId("pair-difference").textContent({ timeout: 40_000 })) ?? "";
    const lost = 100 * Math.sqrt(1 - energy / 100);
    expect(Math.abs(Number.parseFloat(text.replace("%", "")) - lost)).toBeLessThan(0.1);
    await page
      .getByText(/resized/)
      .first()
      .waitFor();
  });

  it("the slider answers within one frame", async () => {
    const page = await go(`/resize?id=${await idOf(session.page, "many-layers")}&value=16`);
    await page.getByTestId("predicted-energy").getByText("%").waitFor({ timeout: 50_000 });
    const slider = page.getByRole("slider", { name: "Rank" });
    await slider.focus();
    const times: number[] = [];
    for (let at = 0; at < 12; at += 1) {
      times.push(
        await page.evaluate(async () => {
          const shown = document.querySelector("[data-testid=predicted-size]")!;
          const before = shown.textContent;
          const began = performance.now();
          document.activeElement!.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
          for (let wait = 0; wait < 200 && shown.textContent === before; wait += 1) await Promise.resolve();
          if (shown.textContent === before) await new Promise((done) => requestAnimationFrame(done));
          return performance.now() - began;
        }),
      );
    }
    times.sort((a, b) => a - b);
    console.log(`slider answered in ${times[6]!.toFixed(1)} ms (median), ${times.at(-1)!.toFixed(1)} ms (slowest)`);
    expect(times[6]!).toBeLessThan(process.env.CI ? 50 : 34);
  });

  it("two adapters are merged", async () => {
    const [first, second] = [
      await idOf(session.page, "sdxl-character-kohya"),
      await idOf(session.page, "sdxl-style-lokr"),
    ];
    const page = await go(`/merge?ids=${first}&ids=${second}&weights=0.7&weights=0.3&rank=8`);
    await page.getByRole("heading", { name: "Interference" }).waitFor({ timeout: 50_000 });
    const write = page.getByRole("button", { name: /^Write \d/ });
    await expect.poll(() => write.isEnabled(), { timeout: 40_000 }).toBe(true);
    await page.getByText(/lora merge .*:0\.7 .*:0\.3 --rank 8/).waitFor();
    await page.getByLabel("Output name").fill("both.safetensors");
    await write.click();
    await page.getByTestId("verification").waitFor({ timeout: 50_000 });
    expect(statSync(join(server.folder, "out", "both.safetensors")).size).toBeGreaterThan(100_000);
  });

  it("a DoRA is merged beside its base, which is chosen among the checkpoints of the library", async () => {
    const [first, second] = [
      await idOf(session.page, "sdxl-portrait-dora"),
      await idOf(session.page, "sdxl-character-kohya"),
    ];
    const page = await go(`/merge?ids=${first}&ids=${second}&weights=0.7&weights=0.3&rank=4`);
    await page.getByRole("heading", { name: "Trained on which base?" }).waitFor({ timeout: 50_000 });
    await page.getByRole("combobox", { name: "Base checkpoint" }).click();
    await page.getByRole("option", { name: /^sdxl-base/ }).click();
    await page.waitForURL(/base=/);
    const write = page.getByRole("button", { name: /^Write \d/ });
    await expect.poll(() => write.isEnabled(), { timeout: 50_000 }).toBe(true);
    await page.getByText(/lora merge .*--base \S*sdxl-base\.safetensors/).waitFor();
    await expectAccessible(page);
    await page.getByLabel("Output name").fill("with-dora.safetensors");
    await write.click();
    await page.getByTestId("verification").waitFor({ timeout: 50_000 });
    expect(statSync(join(server.folder, "out", "with-dora.safetensors")).size).toBeGreaterThan(100_000);
  });

  it("a recipe scores components beside the base, whose norms stay out of the library", async () => {
    const page = await go(`/resize?id=${await idOf(session.page, "sdxl-character-kohya")}`);
    await page.getByRole("combobox", { name: "Ranks by" }).click();
    await page.getByRole("option", { name: /^Recipe/ }).click();
    await page.getByLabel("Recipe", { exact: true }).fill("spn_ckpt=1,spn_lora=1,thr=-0.3");
    await page.getByRole("combobox", { name: "Base checkpoint" }).click();
    await page.getByRole("option", { name: /^sdxl-base/ }).click();
    await page.getByText(/lora resize .*--recipe .*--base \S*sdxl-base\.safetensors/).waitFor({ timeout: 50_000 });
    await page.getByTestId("plan-changed").waitFor();
    expect(readdirSync(server.library).filter((name) => name.includes("norms"))).toEqual([]);
  });

  it("a conversion: what is lost is agreed to, and the difference is measured", async () => {
    const page = await go(`/convert?id=${await idOf(session.page, "sdxl-character-kohya")}&to=peft`);
    await page.getByTestId("convert-layers").waitFor({ timeout: 40_000 });
    // A PEFT folder holds one component, and this adapter has two.
    await page.getByText("20 parts cannot be written so").waitFor();
    const write = page.getByRole("button", { name: /^Write \d/ });
    expect(await write.isEnabled()).toBe(false);
    await page.getByText(/lora convert .*--to peft .*--drop/).waitFor();
    await page.getByRole("combobox", { name: "To", exact: true }).click();
    await page.getByRole("option", { name: /^ComfyUI/ }).click();
    await page.waitForURL(/to=comfyui/);
    await page.getByText("everything can be written").waitFor({ timeout: 40_000 });
    await page.getByText(/lora convert .*--to comfyui/).waitFor();
    expect(await page.getByText(/--drop/).count()).toBe(0);
    await page.getByLabel("Output name").fill("for-comfyui.safetensors");
    await write.click();
    await page.getByTestId("verification").waitFor({ timeout: 50_000 });
    const measured = Number.parseFloat(
      ((await page.getByTestId("measured-error").textContent()) ?? "").replace("%", ""),
    );
    expect(measured).toBe(0);
    expect(statSync(join(server.folder, "out", "for-comfyui.safetensors")).size).toBeGreaterThan(100_000);
  });

  it("an adapter is baked into a checkpoint, and extracted again from both", async () => {
    const [base, adapter] = [await idOf(session.page, "sdxl-base"), await idOf(session.page, "sdxl-portrait-dora")];
    let page = await go(`/bake?ids=${adapter}`);
    await page.getByRole("combobox", { name: "Checkpoint", exact: true }).click();
    await page.getByRole("option", { name: /^sdxl-base/ }).click();
    await page.getByTestId("bake-tensors").waitFor({ timeout: 50_000 });
    await page.getByText(/lora bake \S*sdxl-base\.safetensors \S*sdxl-portrait-dora\.safetensors:1 -o/).waitFor();
    await page.getByLabel("Output name").fill("with-portrait.safetensors");
    await page.getByRole("button", { name: /^Write \d/ }).click();
    await page.getByTestId("measured-rounding").waitFor({ timeout: 55_000 });
    await expectAccessible(page);
    const made = statSync(join(server.folder, "out", "with-portrait.safetensors")).size;
    expect(Math.abs(made - statSync(join(server.library, "sdxl-base.safetensors")).size)).toBeLessThan(10_000);

    const tuned = await idOf(session.page, "with-portrait");
    page = await go(`/extract?tuned=${tuned}&base=${base}&value=8`);
    await page.getByTestId("extract-layers").waitFor({ timeout: 50_000 });
    await page.getByText(/lora extract \S*with-portrait\.safetensors \S*sdxl-base\.safetensors --rank 8 -o/).waitFor();
    await page.getByRole("button", { name: /^Write at most \d/ }).click();
    await page.getByTestId("measured-error").waitFor({ timeout: 55_000 });
    await expectAccessible(page);
    const left = Number.parseFloat(((await page.getByTestId("measured-error").textContent()) ?? "").replace("%", ""));
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(100);
  });

  it("a report is made on the screen that asked for it, and downloaded", async () => {
    const page = await go(`/inspect?id=${await idOf(session.page, "sdxl-character-kohya")}`);
    await page.getByRole("button", { name: "Report", exact: true }).click();
    await page.getByTestId("report-ready").waitFor({ timeout: 55_000 });
    await page.getByText(/lora report .*sdxl-character-kohya\.safetensors -o outputs/).waitFor();
    await expectAccessible(page);
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByTestId("report-ready").getByRole("link", { name: "Download" }).click(),
    ]);
    expect(saved.suggestedFilename()).toBe("sdxl-character-kohya.report.html");
    expect(readFileSync(await saved.path(), "utf8")).toMatch(/^<!doctype html>[\s\S]*Every singular value/);
    await page.reload();
    await page.getByTestId("report-ready").waitFor();
    await page.getByRole("button", { name: "Put the job away" }).click();
    await page.getByTestId("report-ready").waitFor({ state: "detached" });
  });

  it("a job survives a reload, and one that is cancelled stops", async () => {
    const id = await idOf(session.page, "many-layers");
    let page = await go(`/resize?id=${id}&value=8`);
    const write = page.getByRole("button", { name: /^Write \d/ });
    await expect.poll(() => write.isEnabled(), { timeout: 50_000 }).toBe(true);
    await write.click();
    await page.waitForURL(/job=/);
    await page.reload();
    await page.getByRole("region", { name: "The job" }).waitFor();
    await page.getByTestId("verification").waitFor({ timeout: 55_000 });

    // Others are ahead of it, so that there is time to change one's mind.
    await page.evaluate(async (adapter) => {
      for (const rank of [10, 11, 12, 13, 14]) {
        const body = JSON.stringify({ kind: "resize", adapter, options: { rank } });
        await fetch("/api/v1/jobs", { method: "POST", body, headers: { "content-type": "application/json" } });
      }
    }, id);
    page = await go(`/resize?id=${id}&value=9`);
    await expect.poll(() => write.isEnabled(), { timeout: 50_000 }).toBe(true);
    await write.click();
    const panel = page.getByRole("region", { name: "The job" });
    await panel.getByRole("button", { name: "Cancel" }).click();
    const began = Date.now();
    await panel.getByText("cancelled", { exact: true }).waitFor({ timeout: 10_000 });
    expect(Date.now() - began).toBeLessThan(4_000);
    await panel.getByRole("button", { name: "Run again" }).waitFor();
  });

  it("a job that runs for a minute says cancelled within two seconds of the click", async () => {
    const page = await go("/jobs");
    // Entry by entry through 986 dense deltas: nothing of it can be done quickly.
    const id = await idOf(session.page, "many-layers");
    const started = await page.evaluate(async (adapter) => {
      const [headers, method] = [{ "content-type": "application/json" }, "POST"];
      const inputs = [1, 0.5].map((weight) => ({ adapter, weight }));
      const body = JSON.stringify({ kind: "merge", inputs, options: { method: "della", rank: 8, seed: 1 } });
      const reply = await fetch("/api/v1/jobs", { method, body, headers });
      return (await reply.json()) as { id?: string; title?: string };
    }, id);
    expect(started.id, JSON.stringify(started)).toBeTruthy();
    const row = page.getByRole("row").filter({ has: page.getByRole("button", { name: `Cancel ${started.title}` }) });
    await row.getByText("running", { exact: true }).waitFor({ timeout: 30_000 });
    await row.getByText(/^[1-9].* of /).waitFor({ timeout: 50_000 });
    const took = await page.evaluate(async (label) => {
      const button = document.querySelector<HTMLButtonElement>(`button[aria-label="${label}"]`)!;
      const line = button.closest("tr")!;
      const before = line.textContent;
      const began = performance.now();
      button.click();
      while (![...line.querySelectorAll("td")].some((cell) => cell.textContent === "cancelled")) {
        if (performance.now() - began > 10_000) throw new Error(`still: ${line.textContent}; before: ${before}`);
        await new Promise((done) => requestAnimationFrame(done));
      }
      return performance.now() - began;
    }, `Cancel ${started.title}`);
    console.log(`the row said cancelled ${took.toFixed(0)} ms after the click`);
    expect(took).toBeLessThan(2_000 * (process.env.CI ? 2 : 1));
    await page
      .getByRole("button", { name: `Run ${started.title} again` })
      .first()
      .waitFor();
  });

  it("a page of another version than the server's offers to reload", async () => {
    const { page } = session;
    // Every reply says so, as after an update: the page believes the last one.
    await page.route(/\/api\/v1\/(?!events)/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), "x-lora-version": "99.0.0" } });
    });
    await go("/");
    const notice = page.getByRole("alert").filter({ hasText: "99.0.0" });
    await notice.waitFor();
    await expectAccessible(page);
    await Promise.all([page.waitForEvent("load"), notice.getByRole("button", { name: "Reload" }).click()]);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await go("/"); // of the server's version again
    await page.getByRole("heading", { name: "Library" }).waitFor();
    await page.waitForTimeout(1_500);
    expect(await page.getByRole("alert").count()).toBe(0);
  });

  it("a job that fails says why, in the notification and in the list", async () => {
    const id = await idOf(session.page, "sd15-style-kohya");
    const page = await go(`/inspect?id=${id}`);
    await page.getByRole("button", { name: "Check values" }).waitFor();
    writeFileSync(join(server.library, "sd15-style-kohya.safetensors"), "no adapter any more");
    await page.getByRole("button", { name: "Check values" }).click();
    const alert = page.getByRole("alert").filter({ hasText: "failed" });
    await alert.waitFor({ timeout: 30_000 });
    await alert.getByRole("button", { name: "Show the job" }).click();
    await page
      .getByRole("dialog")
      .getByText(/Error ·/)
      .waitFor();
  });

  it("a damaged file says so, and offers nothing that needs its weights", async () => {
    const { page } = session;
    const id = await idOf(page, "damaged");
    await go(`/inspect?id=${id}`);
    await page.getByText("This file cannot be read").waitFor();
    for (const name of ["Spectrum", "Resize", "Pin"])
      await expect.poll(() => page.getByRole("button", { name, exact: true }).isDisabled()).toBe(true);
  });

  it("text of a file never becomes markup", async () => {
    const id = await idOf(session.page, "hostile");
    for (const path of [
      `/inspect?id=${id}`,
      `/inspect?id=${id}&tab=tags`,
      `/inspect?id=${id}&tab=modules`,
      `/inspect?id=${id}&tab=metadata`,
      `/library?id=${id}`,
      `/spectrum?id=${id}`,
      `/resize?id=${id}&value=1`,
    ]) {
      const page = await go(path);
      await page.getByRole("heading", { level: 1 }).waitFor({ timeout: 30_000 });
      if (path.startsWith("/inspect")) await page.getByText("<img src=x").first().waitFor({ timeout: 30_000 });
      await page.waitForTimeout(800);
      expect(await page.title()).toMatch(/LoRA Analysis/);
      expect(await page.locator('img[src="x"], main script').count()).toBe(0);
    }
  });

  it("a session that ended asks for the token over the page and loses nothing", async () => {
    const id = await idOf(session.page, "sdxl-style-lokr");
    const page = await go(`/resize?id=${id}`);
    await page.getByLabel("Output name").fill("typed-before.safetensors");
    await page.getByText("Numbers by the plan").waitFor({ timeout: 40_000 });
    await session.context.clearCookies();
    await page.getByRole("combobox", { name: "Stored type" }).click();
    await page.getByRole("option", { name: "bf16" }).click();
    const dialog = page.getByRole("dialog", { name: "Log in to go on" });
    await dialog.waitFor({ timeout: 20_000 });
    await expectAccessible(page);
    await dialog.getByLabel(/Token/).fill("wrong-wrong-wrong-wrong");
    await dialog.getByRole("button", { name: "Log in" }).click();
    await dialog.getByText(/not the token/).waitFor();
    await dialog.getByLabel(/Token/).fill(TOKEN);
    await dialog.getByRole("button", { name: "Log in" }).click();
    await dialog.waitFor({ state: "hidden" });
    expect(await page.getByLabel("Output name").inputValue()).toBe("typed-before.safetensors");
    await expect
      .poll(() => page.getByRole("button", { name: /^Write \d/ }).isEnabled(), { timeout: 40_000 })
      .toBe(true);
  });

  it("nothing was asked of another host, and no page failed", () => {
    expect(session.problems).toEqual([]);
  });

  describe.each(["light", "dark"] as const)("in the %s scheme", (scheme) => {
    let own: Session;
    let ids: Record<string, string>;
    beforeAll(async () => {
      own = await openPage(browser, server, scheme);
      ids = {
        a: await idOf(own.page, "sdxl-character-kohya"),
        b: await idOf(own.page, "sdxl-style-loha"),
        c: await idOf(own.page, "sdxl-portrait-dora"),
        base: await idOf(own.page, "sdxl-base"),
      };
    });
    afterAll(() => own?.context.close());

    const screens: [string, (ids: Record<string, string>) => string, string][] = [
      ["library", () => "/library", "Health"],
      ["inspect", ({ a }) => `/inspect?id=${a}`, "Training"],
      ["tags", ({ a }) => `/inspect?id=${a}&tab=tags`, "1girl"],
      ["modules", ({ a }) => `/inspect?id=${a}&tab=modules`, "Delta"],
      ["metadata", ({ a }) => `/inspect?id=${a}&tab=metadata`, "ss_output_name"],
      ["health", ({ c }) => `/inspect?id=${c}&tab=health`, "Health"],
      [
        "spectrum",
        ({ a }) => `/spectrum?id=${a}&layer=lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q`,
        "Explained variance",
      ],
      ["pca", ({ a }) => `/spectrum?id=${a}&tab=pca`, "Map of layers"],
      ["base", ({ c, base }) => `/spectrum?id=${c}&tab=base&base=${base}`, "Amplification"],
      ["resize", ({ a }) => `/resize?id=${a}&value=3`, "layers change"],
      ["merge", ({ a, b }) => `/merge?ids=${a}&ids=${b}&weights=0.8&weights=0.5`, "Agreement by block"],
      ["convert", ({ a }) => `/convert?id=${a}&to=peft`, "Leave out what cannot be written"],
      ["bake", ({ c, base }) => `/bake?ids=${c}&base=${base}`, "Write 37"],
      ["extract", ({ base }) => `/extract?tuned=${base}&base=${base}&rule=error`, "Rank at most"],
      ["compare", ({ a, b, c }) => `/compare?ids=${a}&ids=${b}&ids=${c}`, "Subspace overlap"],
      ["jobs", () => "/jobs", "Kind"],
      ["nothing chosen", () => "/resize", "Which adapter gets smaller?"],
    ];
    it.each(screens)("axe finds nothing on %s", async (name, path, sign) => {
      await own.page.goto(server.url + path(ids));
      await own.page.getByText(sign).first().waitFor({ timeout: 50_000 });
      if (name === "resize") await own.page.getByText("Numbers by the plan").waitFor({ timeout: 30_000 });
      await own.page.waitForTimeout(250);
      if (process.env.UI_SCREENSHOTS && !name.includes(" ")) {
        mkdirSync("docs/images", { recursive: true });
        await own.page.screenshot({ path: `docs/images/ui-${name}${scheme === "dark" ? "-dark" : ""}.png` });
      }
      await expectAccessible(own.page);
    });
  });
});
