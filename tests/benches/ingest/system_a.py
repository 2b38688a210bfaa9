#!/usr/bin/env python3
"""Consumes a stream as system A (django-ipc) did: ten entries at a time, each acknowledged by itself.

Nobody listens, as nobody does at the gateways it is measured beside: an event's message is made and finds its room empty.
The original also validated each batch and command with pydantic and logged each; this does neither, so it is faster.
"""

import argparse
import asyncio
import base64
import gzip
import json

from redis.asyncio import Redis
from redis.exceptions import ResponseError

CONSUMER = "websocket-1"
BATCH_SIZE = 10
SERVICES = {"claude", "cursor", "mcp"}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stream", choices=["events", "commands"])
    parser.add_argument("url")
    options = parser.parse_args()
    redis = Redis.from_url(options.url)
    if options.stream == "events":
        await consume(redis, "stream:file-events", "websocket-consumers", 5_000, FileEvents().handle)
    else:
        await consume(redis, "stream:ai-commands", "websocket-router", 1_000, handle_command)


async def consume(redis: Redis, stream: str, group: str, block: int, handle) -> None:
    """Reads and handles entries for ever."""
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    while True:
        streams = await redis.xreadgroup(group, CONSUMER, {stream: ">"}, count=BATCH_SIZE, block=block)
        for _, entries in streams or []:
            for entry_id, fields in entries:
                await handle(redis, fields)
                await redis.xack(stream, group, entry_id)


class FileEvents:
    """Sends the events of batches to the rooms of their workspaces."""

    def __init__(self) -> None:
        self.rooms: dict[str, set] = {}

    async def handle(self, _redis: Redis, fields: dict) -> None:
        data = fields[b"data"]
        if fields.get(b"compressed") == b"true":
            data = gzip.decompress(base64.b64decode(data))
        batch = json.loads(data)
        for event in batch["events"]:
            await self.broadcast(f"workspace:{event['workspace']['id']}", {"type": "file.changed", "data": event})

    async def broadcast(self, room: str, message: dict) -> None:
        for client in self.rooms.get(room, ()):
            await client.send(json.dumps(message))


async def handle_command(redis: Redis, fields: dict) -> None:
    """Passes a command on to the stream of its service."""
    payload = fields[b"payload"]
    service = json.loads(payload)["service"]
    if service not in SERVICES:
        raise ValueError(f"unknown service {service}")
    await redis.xadd(f"stream:{service}-commands", {"payload": payload}, maxlen=10_000, approximate=True)


asyncio.run(main())
