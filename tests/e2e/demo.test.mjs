// Follows `driftline demo` in a real browser as a person would: from "normal" through the incident to "resolved", by reading
// what is on the screen and pressing what it offers.
//
// DRIFTLINE: the binary (default target/debug/driftline). CHROMIUM: the browser (default /usr/bin/chromium).
// SCREENSHOTS: a folder for pictures; without it none are taken.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const binary = process.env.DRIFTLINE ?? `${root}target/debug/driftline`;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MINUTE = 60_000;

let demo, address, browser, page;
const complaints = [];

before(async () => {
  demo = spawn(binary, ["demo", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  address = await new Promise((resolve, reject) => {
    let said = "";
    demo.stdout.on("data", (chunk) => {
      process.stdout.write(chunk);
      said += chunk;
      const found = said.match(/Dashboard: (http:\S+)/);
      if (found) resolve(found[1]);
    });
    demo.on("exit", (code) => reject(new Error(`the demo ended with ${code}`)));
  });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", colorScheme: "light", reducedMotion: "reduce" });
  page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await page.goto(address);
});

after(async () => {
  await browser?.close();
  if (demo?.exitCode === null) demo.kill("SIGINT");
});

/** Runs axe in the page: Content-Security-Policy keeps script tags out, so it goes in by the debugger. */
async function accessible(name) {
  await page.evaluate(axe);
  const result = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }),
  );
  const found = result.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" | ")}`);
  assert.deepEqual(found, [], `accessibility of ${name}`);
}

/** Charts are drawn again at the new width, a moment after it changed. */
const fits = (name) =>
  page
    .waitForFunction(() => document.documentElement.scrollWidth <= innerWidth, null, { timeout: 5_000 })
    .catch(() => assert.fail(`${name} scrolls sideways on a phone`));

/** One screen in both languages and themes and on a phone. */
async function inEveryDress(name) {
  for (const lang of ["en", "ko"]) {
    for (const theme of ["light", "dark"]) {
      await page.waitForFunction((l) => document.documentElement.lang === l, lang);
      await accessible(`${name} ${lang} ${theme}`);
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}-${lang}-${theme}.png`, fullPage: true });
      await page.getByRole("button", { name: /^(Dark|Light|어둡게|밝게)$/ }).click();
    }
    await page.setViewportSize({ width: 390, height: 800 });
    await fits(`${name} in ${lang}`);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}-${lang}-phone.png` });
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.getByRole("button", { name: /^(한국어|English)$/ }).click();
  }
  await page.waitForFunction(() => document.documentElement.lang === "en");
}

const heading = (text) => page.getByRole("heading", { level: 1, name: text }).waitFor({ timeout: 2 * MINUTE });

test("the fleet learns, then looks normal", { timeout: 2 * MINUTE }, async () => {
  await heading("Everything looks normal.");
  await page.getByText("20 of 20 devices report readings like those the models were trained on.").waitFor();
  await page.getByLabel("Normal: 20").waitFor({ timeout: MINUTE });
  await page.getByText(/^Live · updated/).waitFor();
});

test("one incident opens and says what, where, since when, how sure and why", { timeout: 4 * MINUTE }, async () => {
  await heading("1 problem needs a decision.");
  await page.getByText("10 of 10 devices at busan. No other site is affected.").waitFor();
  await page.getByRole("link", { name: "Incidents (1)" }).waitFor();
  await inEveryDress("overview");
  await page.getByRole("link", { name: "Look at the problem" }).click();
  await heading(/^temp_c moved up by about (5\.\d|6(\.\d)?) °C at busan$/);
  const facts = await page.locator("dl.facts").first().innerText();
  assert.match(facts, /What changed\s+temp_c: the middle value went from 6[12](\.\d)? °C to 6[78](\.\d)? °C\. \d+% of readings are above/);
  assert.match(facts, /Where\s+10 of 10 devices at busan\. No other site is affected\./);
  assert.match(facts, /Since when\s+Between \d\d:\d\d:\d\d and \d\d:\d\d:\d\d UTC/);
  assert.match(facts, /How sure are we\s+Very sure\. [\d,]+ readings were compared/);
  assert.match(facts, /Likely cause\s+All affected devices share one thing that the others do not: site busan/);
  await page.getByRole("img", { name: /^temp_c: the middle value went from/ }).waitFor();
  await page.getByText("Before, each range held about 10% of readings").waitFor();
  await inEveryDress("incident");
});

test("one press and one confirmation roll the better model out, stage by stage", { timeout: 4 * MINUTE }, async () => {
  await page.getByRole("button", { name: "Roll out pump v2 to these 10 devices…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/^10 devices get pump v2 for INC-1, in stages of 1 → 4 → 5;/).waitFor();
  await accessible("the plan");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Roll out pump v2 to these 10 devices…" }).click();
  await dialog.getByRole("button", { name: "Start the rollout" }).click();
  await heading("pump v2 → 10 devices");
  await page.getByText(/^Stage 1 of 3 is (running|installed)/).waitFor();
  await page.getByText(/^Stage 2 of 3 is installed on 4 of 4 devices and is being watched/).waitFor({ timeout: 2 * MINUTE });
  await page.getByText("Done · watch passed").first().waitFor();
  await inEveryDress("rollout");
  await page.locator("p.lead", { hasText: "Done. 10 of 10 devices have the new model." }).waitFor({ timeout: 2 * MINUTE });
});

test("the incident is resolved, and the fleet looks normal again", { timeout: 3 * MINUTE }, async () => {
  await page.getByRole("link", { name: "INC-1" }).click();
  await page.locator(".over").getByText("Resolved").waitFor({ timeout: 2 * MINUTE });
  await page.getByText("The readings are back to what the model in use was trained on.").waitFor();
  const panel = page.locator("section", { hasText: "How often the model was right" });
  const accuracy = await panel.innerText();
  const share = (label) => Number(accuracy.match(new RegExp(`${label}\\s+(\\d+)%`))?.[1]);
  const [was, since, now] = [share("pump v1, before the change"), share("pump v1, since the change"), share("pump v2")];
  assert.ok(since < was - 20 && now > since + 20, `accuracy ${was}% → ${since}% → ${now}%`);
  await panel.getByText("Show the numbers as a table").click();
  const figures = await panel.locator("table").innerText();
  assert.match(figures, /precision\s+recall\s+F1/, figures);
  assert.match(figures, /pump v2 \([^)]*\)\s+\d+%\s+0\.\d\d/, figures);
  await page.getByRole("link", { name: "Overview" }).click();
  await heading("Everything looks normal.");
  await page.getByLabel("Normal: 20").waitFor({ timeout: MINUTE });
});

test("without its collector the page says so, keeps what it has, and forbids changes", { timeout: MINUTE }, async () => {
  demo.kill("SIGINT");
  await page.getByText(/^Reconnecting… showing data from \d\d:\d\d:\d\d$/).waitFor({ timeout: 20_000 });
  await page.getByLabel("Normal: 20").waitFor();
  // The lost connection itself is the browser's own complaint.
  assert.deepEqual(complaints.filter((c) => !/WebSocket|ERR_CONNECTION/.test(c)), []);
});
