// A page of system C, as its front end behaves.
//
//   node system_c.mjs <WebSocket URL> grid [task ids as JSON …]
//   node system_c.mjs <WebSocket URL> dashboard
//
// * The grid of products pings, subscribes to the tasks that it knows, and to those that it is told have been created.
// * The dashboard says nothing at all, and waits for what is for everybody.
// * Neither ever connects again.
//
// Prints OPEN, SUBSCRIBED with the task as JSON, and each update as it came. The rest is passed over.

import WebSocket from "ws";

const [url, page, ...tasks] = process.argv.slice(2);
const socket = new WebSocket(url);
const subscribe = (task) => socket.send(JSON.stringify({ type: "subscribe", task_id: task }));

socket.addEventListener("open", () => {
  console.log("OPEN");
  if (page === "grid") {
    socket.send(JSON.stringify({ type: "ping" }));
    tasks.forEach((task) => subscribe(JSON.parse(task)));
  }
});
socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.type === "subscribed") console.log(`SUBSCRIBED ${JSON.stringify(message.task_id)}`);
  if (message.type === "general_update" || (page === "grid" && message.type === "task_update")) console.log(data);
  if (page === "grid" && message.type === "general_update" && message.data.type === "task_created") {
    subscribe(message.data.task_info.task_id);
  }
});
socket.addEventListener("error", ({ message }) => console.error(`failed: ${message}`));
socket.addEventListener("close", ({ code }) => console.log(`GONE ${code}`));
