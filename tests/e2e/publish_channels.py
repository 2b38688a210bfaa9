#!/usr/bin/env python3
"""Publishes on the Pub/Sub channels of systems C and E exactly as their own publishers do.

Prints the payload of system C's messages, and nothing for system E, whose library writes its own.
"""

import argparse
import asyncio
import json
import pickle
import time
import uuid
from datetime import datetime

import redis
import redis.asyncio
import socketio


def main() -> None:
    options = parse_options()
    options.publish(options)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="redis://localhost:6379/0")
    systems = parser.add_subparsers(required=True)

    task = systems.add_parser("task", help="an update of a task of system C")
    task.add_argument("task_id")
    task.add_argument("data", type=json.loads)
    general = systems.add_parser("general", help="an update for everybody of system C")
    general.add_argument("data", type=json.loads)
    for system_c in (task, general):
        system_c.add_argument("--sync", action="store_true", help="as the workers do, not the service")
        system_c.set_defaults(publish=publish_update)

    emit = systems.add_parser("emit", help="an event of system E, through python-socketio")
    emit.add_argument("event")
    emit.add_argument("data", type=json.loads)
    emit.add_argument("--room", type=json.loads, help="as JSON; everybody without it")
    emit.add_argument("--count", type=int, help="so many, each with its number as n")
    emit.add_argument("--pickled", action="store_true", help="the bytes of version 5.10")
    emit.set_defaults(publish=publish_event)
    return parser.parse_args()


def publish_update(options: argparse.Namespace) -> None:
    if "task_id" in options:
        channel, message = "task_updates", {"type": "task_update", "task_id": options.task_id}
    else:
        channel, message = "general_updates", {"type": "general_update"}
    message["data"] = options.data
    # Two publishers, two forms of time.
    message["timestamp"] = datetime.now().isoformat() if options.sync else time.time()
    payload = json.dumps(message)
    if options.sync:
        with redis.Redis.from_url(options.url, decode_responses=True) as client:
            client.publish(channel, payload)
    else:
        asyncio.run(publish_asynchronously(options.url, channel, payload))
    print(payload, flush=True)


async def publish_asynchronously(url: str, channel: str, payload: str) -> None:
    client = redis.asyncio.Redis.from_url(url, decode_responses=True, health_check_interval=30, retry_on_timeout=True)
    await client.publish(channel, payload)
    await client.aclose()


def publish_event(options: argparse.Namespace) -> None:
    if options.pickled:
        return publish_pickle(options)
    manager = socketio.RedisManager(options.url, write_only=True)
    events = [options.data] if options.count is None else ({"n": n} | options.data for n in range(options.count))
    for data in events:
        manager.emit(options.event, data, namespace="/ws", room=options.room)


def publish_pickle(options: argparse.Namespace) -> None:
    message = {"method": "emit", "event": options.event, "data": options.data, "namespace": "/ws", "room": options.room}
    message |= {"skip_sid": None, "callback": None, "host_id": uuid.uuid4().hex}
    with redis.Redis.from_url(options.url) as client:
        client.publish("socketio", pickle.dumps(message))


if __name__ == "__main__":
    main()
