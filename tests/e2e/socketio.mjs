// Clients of Socket.IO, the unmodified `socket.io-client`, that do what a test tells them and tell it what happens to them.
//
//   node socketio.mjs
//
// Prints READY, then reads commands and prints what happens, each as a line of JSON:
//
//   {"do":"open","at":NAME,"url":URL,"namespaces":[…],"transports":[…],"tokens":[…],"headers":{…},"follow":[room…],"reconnect":BOOL}
//   {"do":"emit","at":NAME,"ns":NAMESPACE,"event":EVENT,"args":[…],"ack":NUMBER}     the ack is asked for only with a number
//   {"do":"cut","at":NAME}                                                           ends the transport; the client comes back
//   {"do":"leave","at":NAME,"ns":NAMESPACE}
//
//   {"at":NAME,"ns":NAMESPACE,"say":"connect"|"connect_error"|"disconnect"|"event"|"ack"|"followed"|"upgrade",…}
//
// Each of the tokens is for one attempt to connect, and the last one for all that follow. What is followed is subscribed to on each
// connect, from the last position that is known, as a page would. Binary data are {"$binary":BASE64}.

import { createInterface } from "node:readline";
import { Manager } from "socket.io-client";

const clients = new Map();

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line, (_, value) => (value?.$binary === undefined ? value : Buffer.from(value.$binary, "base64")));
  const { manager, sockets } = clients.get(command.at) ?? {};
  switch (command.do) {
    case "open":
      return clients.set(command.at, open(command));
    case "emit":
      return emit(sockets.get(command.ns), command);
    case "cut":
      return manager.engine.close();
    case "leave":
      return sockets.get(command.ns).disconnect();
  }
});

console.log("READY");

function open({ at, url, namespaces, transports, tokens, headers, follow, reconnect }) {
  const manager = new Manager(url, {
    transports,
    reconnection: reconnect ?? true,
    extraHeaders: headers,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
  });
  manager.on("open", () => manager.engine.on("upgrade", () => say({ at, say: "upgrade" })));
  manager.on("error", ({ message, context }) => say({ at, say: "failed", message, status: context?.status, body: context?.responseText }));
  const sockets = namespaces.map((ns) => {
    const auth = tokens && ((callback) => callback({ token: tokens.length > 1 ? tokens.shift() : tokens[0] }));
    const socket = manager.socket(ns, { auth });
    listen(socket, at, ns, follow ?? []);
    socket.connect();
    return [ns, socket];
  });
  return { manager, sockets: new Map(sockets) };
}

function listen(socket, at, ns, follow) {
  const positions = new Map();
  socket.on("connect", () => {
    const { id, recovered } = socket;
    say({ at, ns, say: "connect", id, recovered, transport: socket.io.engine.transport.name });
    for (const room of follow) {
      socket.emit("subscribe", { room, recover: positions.get(room) }, (answer) => {
        positions.set(room, answer.position);
        say({ at, ns, say: "followed", answer });
      });
    }
  });
  socket.on("connect_error", ({ message, data }) => say({ at, ns, say: "connect_error", message, data }));
  socket.on("disconnect", (reason) => say({ at, ns, say: "disconnect", reason }));
  socket.onAny((event, ...args) => {
    const { room, position } = args[0] ?? {};
    if (position) positions.set(room, position);
    say({ at, ns, say: "event", event, args });
  });
}

function emit(socket, { at, ns, event, args, ack }) {
  if (ack === undefined) return socket.emit(event, ...args);
  socket.emit(event, ...args, (...answer) => say({ at, ns, say: "ack", ack, args: answer }));
}

function say(what) {
  console.log(JSON.stringify(what, (_, value) => (value?.type === "Buffer" ? { $binary: Buffer.from(value.data).toString("base64") } : value)));
}
