#!/usr/bin/env python3
"""Publishes file events to Redis exactly as the manual test of django-ipc does, or breaks them on purpose.

Without options the entry is byte for byte the one of that test. Each published entry's id is printed on a
line of its own.
"""

import argparse
import asyncio
import base64
import gzip
import json
import struct
import zlib

from redis.asyncio import Redis

STREAM = "stream:file-events"
NESTING = 100_000
# Magic number, deflate, no flags, no time, best compression, Unix.
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"


async def main() -> None:
    options = parse_options()
    redis = Redis.from_url(options.url)
    try:
        for number in range(options.entries):
            fields = entry(options, number)
            entry_id = await redis.xadd(options.stream, fields, "*")
            print(entry_id.decode(), flush=True)
    finally:
        await redis.aclose()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="redis://localhost:6379/2")
    parser.add_argument("--stream", default=STREAM)
    parser.add_argument("--workspace", default="test-workspace")
    parser.add_argument("--gzip", action="store_true", help="base64(gzip(JSON)), as for large batches")
    parser.add_argument("--hint", choices=["true", "false", "absent"], help="what `compressed` claims, right or wrong")
    parser.add_argument("--events", type=int, default=1, help="events in a batch")
    parser.add_argument("--entries", type=int, default=1, help="how many batches")
    parser.add_argument("--broken", choices=sorted(BROKEN), help="publish a batch that is broken in this way")
    parser.add_argument("--bomb-bytes", type=int, default=10 * 1024, help="compressed size of the bomb")
    return parser.parse_args()


def entry(options: argparse.Namespace, number: int) -> dict:
    """The fields of one stream entry."""
    if options.broken:
        fields = BROKEN[options.broken](options)
    else:
        batch = batch_of(options, number)
        fields = compressed(json.dumps(batch)) if options.gzip else plain(json.dumps(batch))
        fields["batch_id"] = batch["batch_id"]
    if options.hint == "absent":
        del fields["compressed"]
    elif options.hint:
        fields["compressed"] = options.hint
    return fields


def batch_of(options: argparse.Namespace, number: int = 0) -> dict:
    """The batch of the manual test; further entries and events are told apart by a number."""
    batch = {
        "batch_id": numbered("test-batch", number),
        "timestamp": "2025-10-06T01:00:00Z",
        "batch_count": options.events,
        "events": [
            {
                "event_id": numbered("test-event", number * options.events + event),
                "timestamp": "2025-10-06T01:00:00Z",
                "workspace": {"id": options.workspace},
                "file": {"path": "test.py", "event_type": "create"},
                "change": {"type": "full_content", "content": "print('test')"},
            }
            for event in range(options.events)
        ],
    }
    return batch


def numbered(name: str, number: int) -> str:
    return f"{name}-{number}" if number else name


def plain(text: str) -> dict:
    return {"data": text, "compressed": "false", "batch_id": "test-batch"}


def compressed(text: str) -> dict:
    return encoded(gzip.compress(text.encode()))


def encoded(data: bytes) -> dict:
    return {"data": base64.b64encode(data), "compressed": "true", "batch_id": "test-batch"}


def bad_json(options: argparse.Namespace) -> dict:
    return plain(json.dumps(batch_of(options))[:-5])


def bad_base64(options: argparse.Namespace) -> dict:
    fields = compressed(json.dumps(batch_of(options)))
    fields["data"] = fields["data"][:20] + b"!%&" + fields["data"][20:]
    return fields


def bad_gzip(options: argparse.Namespace) -> dict:
    """Right base64 of what begins as gzip does and then is noise."""
    data = gzip.compress(json.dumps(batch_of(options)).encode())
    return encoded(data[:10] + bytes(byte ^ 0x5A for byte in data[10:]))


def bad_checksum(options: argparse.Namespace) -> dict:
    data = bytearray(gzip.compress(json.dumps(batch_of(options)).encode()))
    data[-8] ^= 1
    return encoded(bytes(data))


def truncated_gzip(options: argparse.Namespace) -> dict:
    data = gzip.compress(json.dumps(batch_of(options)).encode())
    return encoded(data[: len(data) * 2 // 3])


def bomb(options: argparse.Namespace) -> dict:
    """A valid batch whose content inflates about a thousandfold: only its size is wrong with it.

    After a full flush, deflate forgets what came before, so one block of it can stand any number of times. That way
    a bomb of 1 GiB takes no longer than its checksum.
    """
    marker = b"print('test')"
    before, after = json.dumps(batch_of(options)).encode().split(marker)
    content = b"A" * (256 * 1024)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflate.compress(before) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(content) + deflate.flush(zlib.Z_FULL_FLUSH)
    tail = deflate.compress(after) + deflate.flush(zlib.Z_FINISH)

    frame = len(GZIP_HEAD) + len(head) + len(tail) + 8
    blocks = (options.bomb_bytes - frame) // len(block)
    checksum = zlib.crc32(before)
    for _ in range(blocks):
        checksum = zlib.crc32(content, checksum)
    checksum = zlib.crc32(after, checksum)
    size = len(before) + blocks * len(content) + len(after)
    trailer = struct.pack("<II", checksum, size % 2**32)
    return encoded(GZIP_HEAD + head + block * blocks + tail + trailer)


def missing_data(options: argparse.Namespace) -> dict:
    fields = plain("")
    del fields["data"]
    return fields


def empty_data(options: argparse.Namespace) -> dict:
    return plain("")


def missing_events(options: argparse.Namespace) -> dict:
    batch = batch_of(options)
    del batch["events"]
    return plain(json.dumps(batch))


def missing_workspace(options: argparse.Namespace) -> dict:
    """The last event of the batch has no workspace; those before it, if any, are good."""
    batch = batch_of(options)
    del batch["events"][-1]["workspace"]
    return plain(json.dumps(batch))


def wrong_types(options: argparse.Namespace) -> dict:
    batch = batch_of(options)
    batch["events"] = {"0": "not a list"}
    return plain(json.dumps(batch))


def invalid_utf8(options: argparse.Namespace) -> dict:
    fields = plain("")
    fields["data"] = json.dumps(batch_of(options)).encode().replace(b"test.py", b"t\xff\xfe.py")
    return fields


def deep_nesting(options: argparse.Namespace) -> dict:
    """Deeper than any recursive parser's stack. It is not built by one either."""
    marker = "print('test')"
    text = json.dumps(batch_of(options))
    return plain(text.replace(json.dumps(marker), "[" * NESTING + "]" * NESTING, 1))


BROKEN = {
    "bad-json": bad_json,
    "bad-base64": bad_base64,
    "bad-gzip": bad_gzip,
    "bad-checksum": bad_checksum,
    "truncated-gzip": truncated_gzip,
    "bomb": bomb,
    "missing-data": missing_data,
    "empty-data": empty_data,
    "missing-events": missing_events,
    "missing-workspace": missing_workspace,
    "wrong-types": wrong_types,
    "invalid-utf8": invalid_utf8,
    "deep-nesting": deep_nesting,
}


if __name__ == "__main__":
    asyncio.run(main())
