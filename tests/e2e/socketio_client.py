#!/usr/bin/env python3
"""Clients of python-socketio, asynchronous or not, that do what a test tells them and tell it what happens to them.

Commands and what happens are as in socketio.mjs, line by line, but nothing is cut or left from here.
"""

import asyncio
import base64
import json
import sys
import threading

import socketio

ASYNCHRONOUS = "--sync" not in sys.argv
DELAYS = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2, "randomization_factor": 0}
PRINTING = threading.Lock()


def main() -> None:
    print("READY", flush=True)
    if ASYNCHRONOUS:
        asyncio.run(obey_asynchronously())
    else:
        clients = {}
        for line in sys.stdin:
            obey(clients, json.loads(line, object_hook=from_json))


async def obey_asynchronously() -> None:
    clients, tasks, loop = {}, set(), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line, object_hook=from_json)
        if command["do"] == "open":
            client = clients[command["at"]] = prepare(socketio.AsyncClient(**DELAYS), command)
            # A connection that takes long does not keep the others from theirs.
            tasks.add(asyncio.create_task(connect_asynchronously(client, command)))
        elif command["do"] == "emit":
            await clients[command["at"]].emit(**emission(command))


def obey(clients: dict, command: dict) -> None:
    if command["do"] == "open":
        client = clients[command["at"]] = prepare(socketio.Client(**DELAYS), command)
        threading.Thread(target=connect, args=(client, command), daemon=True).start()
    elif command["do"] == "emit":
        clients[command["at"]].emit(**emission(command))


async def connect_asynchronously(client: socketio.AsyncClient, command: dict) -> None:
    try:
        await client.connect(command["url"], **options(command))
    except socketio.exceptions.ConnectionError as error:
        say(at=command["at"], say="failed", message=str(error))


def connect(client: socketio.Client, command: dict) -> None:
    try:
        client.connect(command["url"], **options(command))
    except socketio.exceptions.ConnectionError as error:
        say(at=command["at"], say="failed", message=str(error))


def options(command: dict) -> dict:
    """What a client is told to connect with."""
    tokens = command.get("tokens")
    auth = (lambda: {"token": tokens.pop(0) if len(tokens) > 1 else tokens[0]}) if tokens else None
    return {
        "transports": command["transports"],
        "namespaces": command["namespaces"],
        "headers": command.get("headers") or {},
        "auth": auth,
        "wait_timeout": 10,
    }


def emission(command: dict) -> dict:
    """What a client is told to emit."""

    def callback(*args):
        say(at=command["at"], ns=command["ns"], say="ack", ack=command["ack"], args=args)

    return {
        "event": command["event"],
        "data": tuple(command["args"]),
        "namespace": command["ns"],
        "callback": callback if "ack" in command else None,
    }


def prepare(client, command: dict):
    for namespace in command["namespaces"]:
        listen(client, command["at"], namespace, command.get("follow") or [])
    return client


def listen(client, at: str, namespace: str, follow: list) -> None:
    place = {"at": at, "ns": namespace}
    positions = {}

    def connected():
        # This is told before it is known to the client's own methods.
        say(**place, say="connect", id=client.namespaces.get(namespace), transport=client.eio.transport())
        for room in follow:
            request = {"room": room}
            if room in positions:
                request["recover"] = positions[room]
            yield "subscribe", request, lambda answer, room=room: followed(room, answer)

    def followed(room, answer):
        positions[room] = answer.get("position")
        say(**place, say="followed", answer=answer)

    def heard(event, *args):
        envelope = args[0] if args and isinstance(args[0], dict) else {}
        if "position" in envelope:
            # Each event may have a thread, so an earlier one may come here later.
            positions[envelope["room"]] = max(positions.get(envelope["room"]) or "..", envelope["position"], key=place_of)
        say(**place, say="event", event=event, args=args)

    async def on_connect():
        for event, request, callback in connected():
            await client.emit(event, request, namespace=namespace, callback=callback)

    def on_connect_synchronously():
        for event, request, callback in connected():
            client.emit(event, request, namespace=namespace, callback=callback)

    def refused(error=None):
        error = error if isinstance(error, dict) else {"message": error}
        say(**place, say="connect_error", message=error.get("message"), data=error.get("data"))

    def disconnected(*reason):
        say(**place, say="disconnect", reason=reason[0] if reason else None)

    client.on("connect", on_connect if ASYNCHRONOUS else on_connect_synchronously, namespace=namespace)
    client.on("connect_error", refused, namespace=namespace)
    client.on("disconnect", disconnected, namespace=namespace)
    client.on("*", heard, namespace=namespace)


def place_of(position: str) -> int:
    return int(position.split(".")[1] or 0)


def from_json(value: dict):
    return base64.b64decode(value["$binary"]) if "$binary" in value else value


def to_json(value):
    return {"$binary": base64.b64encode(value).decode()}


def say(**what) -> None:
    with PRINTING:
        print(json.dumps(what, default=to_json), flush=True)


if __name__ == "__main__":
    main()
