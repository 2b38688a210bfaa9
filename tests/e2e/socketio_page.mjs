// Pages of two origins, in a real browser, that connect with `socket.io-client` and credentials in all three ways it can be carried.
//
//   node socketio_page.mjs <URL of the gateway> <token> <room>
//
// The origins are http://127.0.0.1:PORT and http://localhost:PORT. Prints, as JSON, for each page and way what happens first:
// SUBSCRIBED or FAILED, then the data of each event `tick`.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [url, token, room] = process.argv.slice(2);
const library = await readFile(new URL("node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));

const server = createServer(({ url }, answer) => {
  const [type, body] = url === "/client.js" ? ["text/javascript", library] : ["text/html", '<script src="/client.js"></script>'];
  answer.setHeader("content-type", type).end(body);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
});
for (const host of ["127.0.0.1", "localhost"]) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`pageerror: ${error}`));
  await page.exposeFunction("say", (what) => console.log(JSON.stringify({ host, ...what })));
  await page.goto(`http://${host}:${server.address().port}/`);
  await page.evaluate(
    ({ url, token, room }) => {
      for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
        const way = transports.join("+");
        const options = { transports, withCredentials: true, auth: { token }, reconnection: false, forceNew: true };
        const socket = io(`${url}/ws`, options);
        socket.on("connect_error", () => say({ way, say: "FAILED" }));
        socket.on("tick", ({ data }) => say({ way, say: "tick", data, transport: socket.io.engine.transport.name }));
        // Subscribed on its last transport, so that what comes is on that.
        const subscribe = () => socket.emit("subscribe", { room }, ({ status }) => say({ way, say: "SUBSCRIBED", status }));
        socket.on("connect", () => {
          const { engine } = socket.io;
          transports.at(-1) === engine.transport.name ? subscribe() : engine.once("upgrade", subscribe);
        });
      }
    },
    { url, token, room },
  );
}
