// A small Socket.IO server, which the benchmark compares with: tokens are checked, clients enter rooms and publish.
//
//   SECRET=… node --expose-gc socketio_server.mjs
//
// It prints its address, and "collected" when it has collected its garbage on SIGUSR2.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

import { Server } from "socket.io";

const HOUR = 3_600_000;

function verify(token) {
  const [header, claims, signature] = token.split(".");
  const expected = createHmac("sha256", process.env.SECRET).update(`${header}.${claims}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new Error("the token is not valid");
  }
  const { sub, role, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  if (exp * 1000 <= Date.now()) {
    throw new Error("the token has expired");
  }
  return { sub, role };
}

const server = createServer();
// Nobody answers the pings of a server whose turn it is not.
const io = new Server(server, { pingInterval: HOUR, pingTimeout: 2 * HOUR, serveClient: false });

io.use((socket, next) => {
  try {
    socket.data = verify(socket.handshake.auth.token);
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  socket.on("subscribe", ({ room }, done) => {
    socket.join(room);
    done({ status: "success", room });
  });
  socket.on("publish", ({ room, type, data }) => {
    if (socket.data.role === "admin") {
      io.to(room).emit(type, data);
    }
  });
});

process.on("SIGUSR2", () => {
  global.gc();
  console.log("collected");
});

// Clients come a hundred at a time.
server.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
