#!/usr/bin/python3
"""A proxy between two Unix sockets that counts the frames passing in each direction.

    counting_proxy.py --listen PATH --connect PATH [--log FILE] [--delay-ms N]

It prints `ready` when it listens and passes every byte on as it comes, unchanged. It follows plain framing
(u32 length), and extended framing (u32 total, u32 head: a frame is 8 + total bytes, its payload total - head)
from the frame after a HELLO exchange: a first request with op 32 whose reply has err 0 and a `data` byte
string. What a peer has received has been counted before.

SIGUSR1 replaces FILE by a JSON object (whole, never half-written; without --log it goes to stdout) and then
prints `counts K`, K being the number of such objects so far, also found in it as `dump`; so a test sends the
signal and reads one line. SIGTERM writes a last one, removes the socket and ends. Per direction it holds
frames, bytes, payload_bytes (in plain mode the length of `data`), the frames of each framing, the plain
requests by op, and `lost`: streams whose framing made no sense, passed on but no longer counted as frames.
`hello_request` and `hello_reply` are the latest exchange's `data` in hex.

--delay-ms holds each piece of data that long, in both directions, without limiting the rate.
"""
import argparse
import asyncio
import json
import os
import signal
import sys
from collections import Counter

import minicbor as cbor

HELLO = 32
MAX_PLAIN = 64 << 20
READ_SIZE = 256 << 10
QUEUED_READS = 256                                   # bounds what --delay-ms holds back


class Direction:
    """What went one way, over all connections."""

    def __init__(self):
        self.frames = self.bytes = self.payload_bytes = self.plain_frames = self.extended_frames = self.lost = 0
        self.ops = Counter()

    def as_dict(self) -> dict:
        return {**vars(self), "ops": {str(op): count for op, count in sorted(self.ops.items())}}


class Link:
    """What the two directions of one connection have to know of each other."""

    def __init__(self, totals: "Totals"):
        self.totals, self.extended = totals, False
        self.first_op = None                         # of the first request


class Totals:
    def __init__(self):
        self.to_server, self.to_client = Direction(), Direction()
        self.connections = self.open = self.extended_connections = self.dump = 0
        self.hello_request = self.hello_reply = None

    def as_dict(self) -> dict:
        return {**vars(self), "to_server": self.to_server.as_dict(), "to_client": self.to_client.as_dict()}


def plain_fields(body: bytes) -> dict:
    """The fields of a plain frame up to `entries`, which comes last and may be long."""
    fields = {}
    if not body or body[0] >> 5 != cbor.MAP or body[0] & 31 == 31:
        raise cbor.CBORError("not a definite map")
    count, offset = body[0] & 31, 1
    if count > 23:                                   # more pairs than the protocol has keys
        raise cbor.CBORError("not a map of the plain protocol")
    for _ in range(count):
        key, offset = cbor.decode_prefix(body, offset, cbor.LAX)
        if key == "entries":
            break
        fields[key], offset = cbor.decode_prefix(body, offset, cbor.LAX)
    return fields


class Follower:
    """Counts the frames of one direction of one connection. It keeps a plain frame until it is whole."""

    def __init__(self, link: Link, counts: Direction, is_request: bool):
        self.link, self.counts, self.is_request = link, counts, is_request
        self.buffer, self.skip, self.frames, self.lost = bytearray(), 0, 0, False

    def feed(self, data: bytes) -> None:
        self.counts.bytes += len(data)
        if self.lost:
            return
        self.buffer += data
        while self.buffer and not self.lost:
            if self.skip:                            # the rest of an extended frame
                gone = min(self.skip, len(self.buffer))
                del self.buffer[:gone]
                self.skip -= gone
            elif not (self.extended_frame() if self.link.extended else self.plain_frame()):
                return

    def give_up(self) -> None:
        self.lost, self.buffer = True, bytearray()
        self.counts.lost += 1

    def count(self, payload: int) -> None:
        self.frames += 1
        self.counts.frames += 1
        self.counts.payload_bytes += payload

    def extended_frame(self) -> bool:
        """Takes a frame's header; counts a frame at its header. False when more bytes are needed."""
        if len(self.buffer) < 8:
            return False
        total, head = (int.from_bytes(self.buffer[at:at + 4], "big") for at in (0, 4))
        if head > total:
            self.give_up()
            return False
        del self.buffer[:8]
        self.skip = total
        self.counts.extended_frames += 1
        self.count(total - head)
        return True

    def plain_frame(self) -> bool:
        if len(self.buffer) < 4:
            return False
        length = int.from_bytes(self.buffer[:4], "big")
        if length > MAX_PLAIN:
            self.give_up()
            return False
        if len(self.buffer) < 4 + length:
            return False
        body = bytes(self.buffer[4:4 + length])
        del self.buffer[:4 + length]
        try:
            fields = plain_fields(body)
        except (cbor.CBORError, TypeError):
            fields = {}                              # a frame all the same
        data = fields.get("data")
        self.counts.plain_frames += 1
        self.count(len(data) if isinstance(data, bytes) else 0)
        self.watch_hello(fields, data)
        return True

    def watch_hello(self, fields: dict, data) -> None:
        link, totals = self.link, self.link.totals
        if self.is_request:
            op = fields.get("op")
            self.counts.ops[op] += 1
            if self.frames == 1:
                link.first_op = op
                if op == HELLO:
                    totals.hello_request = data.hex() if isinstance(data, bytes) else None
        elif self.frames == 1 and link.first_op == HELLO and fields.get("err") == 0 and isinstance(data, bytes):
            totals.hello_reply = data.hex()
            totals.extended_connections += 1
            link.extended = True


class Proxy:
    def __init__(self, options):
        self.options, self.totals, self.serving = options, Totals(), set()

    async def receive(self, reader, queue: asyncio.Queue, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(READ_SIZE):
            follower.feed(data)
            await queue.put((loop.time() + self.options.delay_ms / 1000, data))
        await queue.put((loop.time() + self.options.delay_ms / 1000, b""))

    async def send(self, queue: asyncio.Queue, writer) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:                             # one side has ended; the other may go on
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def serve(self, client_reader, client_writer) -> None:
        totals, this = self.totals, asyncio.current_task()
        self.serving.add(this)
        totals.connections += 1
        totals.open += 1
        writers, tasks = [client_writer], []
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self.options.connect)
            writers.append(server_writer)
            link = Link(totals)
            for reader, writer, follower in (
                    (client_reader, server_writer, Follower(link, totals.to_server, True)),
                    (server_reader, client_writer, Follower(link, totals.to_client, False))):
                queue = asyncio.Queue(QUEUED_READS)
                tasks.append(asyncio.create_task(self.receive(reader, queue, follower)))
                tasks.append(asyncio.create_task(self.send(queue, writer)))
            await asyncio.gather(*tasks)
        except OSError as error:
            if len(writers) == 1:
                print(f"counting_proxy: {self.options.connect}: {error}", file=sys.stderr)
        except asyncio.CancelledError:
            pass                                     # SIGTERM
        finally:
            for task in tasks:
                task.cancel()
            for writer in writers:
                writer.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            totals.open -= 1
            self.serving.discard(this)

    def dump(self) -> None:
        self.totals.dump += 1
        text = json.dumps(self.totals.as_dict())
        if self.options.log:
            with open(self.options.log + ".new", "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(self.options.log + ".new", self.options.log)
        else:
            print(text)
        print(f"counts {self.totals.dump}", flush=True)

    async def run(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self.dump)
        server = await asyncio.start_unix_server(self.serve, self.options.listen, limit=READ_SIZE, backlog=128)
        try:
            print("ready", flush=True)
            await stop.wait()
            server.close()
            for task in self.serving:
                task.cancel()
            await asyncio.gather(*self.serving)
        finally:
            os.unlink(self.options.listen)
        self.dump()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--listen", required=True, metavar="PATH")
    parser.add_argument("--connect", required=True, metavar="PATH")
    parser.add_argument("--log", metavar="FILE", help="where SIGUSR1 puts the counts")
    parser.add_argument("--delay-ms", type=float, default=0, metavar="N", help="latency added in each direction")
    asyncio.run(Proxy(parser.parse_args()).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
