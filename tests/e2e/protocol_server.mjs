// The server of the protocols' tests (tests/tests/engineio_protocol.rs and socketio_protocol.rs), on the packages that define the protocols.
//
//   node protocol_server.mjs [--listen 127.0.0.1:0] [--ping-interval 300] [--ping-timeout 200] [--connect-timeout 1000]
//
// * /engine.io/ sends every message back as it came.
// * /socket.io/ has the namespaces / and /custom. Who connects is sent `auth` with what it said when it connected, an event `message`
//   comes back as `message-back`, and `message-with-ack` is acknowledged with its own arguments.
//
// Prints the address that it listens on, and serves until it is killed.

import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { Server as Engine } from "engine.io";
import { Server } from "socket.io";

const { values } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:0" },
    "ping-interval": { type: "string", default: "300" },
    "ping-timeout": { type: "string", default: "200" },
    "connect-timeout": { type: "string", default: "1000" },
  },
});

const options = {
  pingInterval: Number(values["ping-interval"]),
  pingTimeout: Number(values["ping-timeout"]),
  maxHttpBufferSize: 1_000_000,
  cors: { origin: "*" },
  // Each of the two leaves the other's WebSockets alone.
  destroyUpgrade: false,
};

const server = createServer();

const engine = new Engine(options);
engine.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
engine.attach(server, { path: "/engine.io/", ...options });

const io = new Server(server, { ...options, path: "/socket.io/", connectTimeout: Number(values["connect-timeout"]), serveClient: false });
for (const namespace of ["/", "/custom"]) {
  io.of(namespace).on("connection", (socket) => {
    socket.emit("auth", socket.handshake.auth);
    socket.on("message", (...args) => socket.emit("message-back", ...args));
    socket.on("message-with-ack", (...args) => args.pop()(...args));
  });
}

const [host, port] = values.listen.split(/:(?=\d+$)/);
server.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`));
