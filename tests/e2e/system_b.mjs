// A page of system B, as its front end behaves.
//
//   node system_b.mjs <WebSocket URL> [project id]
//
// * The whole frame is read as one JSON object. Pongs are dropped, errors are only said, and what has no handler is passed over.
// * It connects again only after an end without a close frame: 1 s later, then later and later, 10 times at the most.
// * It subscribes once. Connected again, it takes its subscriptions for granted.
//
// Prints OPEN for each connection, each frame that is handled as it came, and PASSED OVER with the type of any other.

import WebSocket from "ws";

const HANDLED = ["task_created", "task_updated", "task_deleted", "project_updated", "status_changed", "user_joined", "user_left"];
const [MOST_ATTEMPTS, FIRST_DELAY, LONGEST_DELAY, PING] = [10, 1_000, 30_000, 30_000];

const [url, project] = process.argv.slice(2);
const subscribed = new Set();
let attempts = 0;

function connect() {
  const socket = new WebSocket(url);
  let pings;
  socket.addEventListener("open", () => {
    console.log("OPEN");
    attempts = 0;
    pings = setInterval(() => socket.send(JSON.stringify({ type: "ping" })), PING);
    subscribe(socket);
  });
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "pong") return;
    if (message.type === "error") return console.error(`error: ${data}`);
    console.log(HANDLED.includes(message.type) ? data : `PASSED OVER ${message.type}`);
  });
  // What it means is told by the end that follows.
  socket.addEventListener("error", ({ message }) => console.error(`failed: ${message}`));
  socket.addEventListener("close", ({ wasClean }) => {
    clearInterval(pings);
    if (wasClean || attempts >= MOST_ATTEMPTS) return console.log("GONE");
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempts++);
    setTimeout(connect, delay * (0.75 + Math.random() / 2));
  });
}

function subscribe(socket) {
  if (project === undefined || subscribed.has(project)) return;
  subscribed.add(project);
  socket.send(JSON.stringify({ type: "subscription", data: { action: "subscribe", project_id: project } }));
}

connect();
