// Drives the console page in a real browser, as a person would: subscribes to a room, waits for one event.
//
//   node console.mjs <console URL with #token=…> <screenshot path> [room] [event type]
//
// Prints READY once the room is subscribed, then the text of the event's pre.raw as one line of JSON, and exits with 0.
// Everything else, such as the page's own errors, goes to stderr.

import { chromium } from "playwright-core";

const PATIENCE_MS = 30_000;

const [url, screenshot, room = "workspace:test-workspace", type = "file.changed"] = process.argv.slice(2);
if (!url || !screenshot) {
  console.error("usage: node console.mjs <console URL> <screenshot path> [room] [event type]");
  process.exit(2);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
let page;
try {
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const errors = [];
  page.on("pageerror", (error) => errors.push(error));
  await page.addInitScript(() =>
    addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => {
      throw new Error(`the policy of the page forbids ${effectiveDirective} ${blockedURI}`);
    }),
  );
  page.on("console", (message) => console.error(`console.${message.type()}: ${message.text()}`));

  await page.goto(url);
  await page.fill("#room", room);
  await page.click("#subscribe");
  // The room is in the list as soon as it is asked for; only the gateway's answer makes it joined.
  await page.waitForSelector(`#rooms li[data-room="${room}"][data-state="joined"]`);
  console.log("READY");

  const event = page.locator(`#events li.event[data-type="${type}"]`).first();
  await event.waitFor({ state: "attached" });
  const raw = await event.locator("pre.raw").textContent();
  JSON.parse(raw);
  // The text may be shown indented; between tokens, line breaks mean nothing, and inside strings JSON has none.
  console.log(raw.trim().replace(/\s*\n\s*/g, ""));
  await page.screenshot({ path: screenshot, fullPage: true });
  if (errors.length > 0) {
    throw new Error(`the page has errors: ${errors.join("; ")}`);
  }
  // What is not the page's own is forbidden, and that is told.
  const [error] = await Promise.all([
    page.waitForEvent("pageerror"),
    page.evaluate(() => document.head.append(Object.assign(document.createElement("style"), { textContent: "* {}" }))),
  ]);
  if (!error.message.includes("style-src-elem")) {
    throw error;
  }
} catch (error) {
  console.error(error);
  // What the page looked like is the best hint at what went wrong.
  await page?.screenshot({ path: screenshot, fullPage: true }).catch(() => {});
  process.exitCode = 1;
} finally {
  await browser.close();
}
