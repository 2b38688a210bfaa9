// Runs the client of the README in a real browser.
//
//   node follow.mjs <WebSocket URL> <token> <room>
//
// Prints SUBSCRIBED for each answer to a subscription, RECONNECT and the milliseconds where the client is told when to come back, the data of each message of the room as a line, GAP where the client is told
// that it may have missed some, and exits with 0 after a message of type "end". The page's own words go to stderr.

import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [url, token, room] = process.argv.slice(2);
const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
const [, client] = readme.match(/\n## Rooms that remember\n[^]*?```js\n([^]*?)```/);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
});
const page = await browser.newPage();
page.on("pageerror", (error) => console.error(`pageerror: ${error}`));
page.on("console", (message) => console.error(`console.${message.type()}: ${message.text()}`));
page.on("websocket", (socket) =>
  socket.on("framereceived", ({ payload }) => {
    const { type, data } = JSON.parse(payload);
    if (type === "subscribed") console.log("SUBSCRIBED");
    if (type === "reconnect") console.log(`RECONNECT ${data.after_ms}`);
  }),
);
const ended = new Promise((resolve) => page.exposeFunction("ended", resolve));
await page.exposeFunction("say", (line) => console.log(line));
await page.waitForFunction(() => window.ended && window.say);
await page.evaluate(`${client}
  const onMessage = (frame) => (frame.type === "end" ? ended() : say(JSON.stringify(frame.data)));
  follow(${JSON.stringify(url)}, ${JSON.stringify(token)}, ${JSON.stringify(room)}, onMessage, () => say("GAP"));
`);
await ended;
await browser.close();
