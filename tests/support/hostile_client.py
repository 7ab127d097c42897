#!/usr/bin/python3
"""A hostile client: it sends what no honest peer would, and checks that the server survives.

    hostile_client.py --socket PATH [--prefix /workspace] [--seed N] [--iterations N] [--hello HEX|@FILE]

After each attack a fresh, well-behaved connection must get its getattr of the prefix answered, by the same
process. An attack itself passes when the server closes the connection (what the protocol forbids outright
must be closed while our side stays open; `--lenient` waives that) or answers in well-formed replies, and, for
the attacks on resources, when the server's memory has not grown by more than --rss-limit MiB.

Extended framing is attacked behind a HELLO, that of doc/protocol.md; another one can be given as `--hello HEX`,
or as `--hello @FILE` with hex or with counting_proxy.py's JSON (`hello_request`). `--need-extended` fails where
the server refuses it: the frames are then sent blind.

Mutated requests are real requests at times: **serve a scratch directory**. It works in `hostile-SEED` there.
Everything is deterministic by seed; fuzz iteration I alone is `--only fuzz --first I --iterations 1`. Prints
failures (with --verbose what became of each attack), then `N passed, N failed`.
"""
import argparse
import contextlib
import json
import random
import select
import socket
import struct
import sys
import time

import minicbor as cbor
from minicbor import BadText, CBORError, Claim, Indef, Pairs, Raw, Simple, Tag, Wide
from plain_client import MAX_FRAME, REQUEST_KEYS, PlainClient, ProtocolError, decode_reply, encode_request, frame

CLOSE, ANY = "must close", "may answer or close"
HUGE = (1 << 64) - 1
EXTENDED_LIMIT = (1 << 20) + (64 << 10)
HELLO = b"VSOCKFS1" + cbor.encode({29: 1})      # version 1


# Sound messages about what is not there, or that nobody can do: each is answered.
EXTENDED_ODD = (
    ("a node of 2^64-1", {0: 41, 1: 1, 4: HUGE}), ("node 0", {0: 41, 1: 1, 4: 0}),
    ("a file of 2^64-1", {0: 47, 1: 1, 8: HUGE, 10: 0, 12: 9}), ("a read of 2^64-1", {0: 47, 1: 1, 8: 1, 10: HUGE, 12: HUGE}),
    *((f"the name {name!r}", {0: 40, 1: 1, 4: 1, 5: name})
      for name in (b"", b".", b"..", b"a/b", b"/etc/passwd", b"a\0b", b"x" * 256, b"\xff")),
    *((f"a {kind} in the root", {0: 50, 1: 1, 4: 1, 5: b"../x", 14: mode, 21: HUGE})
      for kind, mode in (("device", 0o20666), ("FIFO", 0o10666), ("directory", 0o40777), ("nothing", HUGE))),
    ("a rename above the root", {0: 55, 1: 1, 4: 1, 5: b"x", 6: 1, 7: b"..", 13: HUGE}),
    ("a listing from 2^64-1", {0: 42, 1: 1, 4: 1, 10: HUGE, 12: HUGE}), ("a listing of 1 byte", {0: 42, 1: 1, 4: 1, 10: 0, 12: 1}),
    ("a SETATTR of everything", {0: 49, 1: 1, 4: HUGE, 18: HUGE, 12: HUGE, 14: HUGE, 15: HUGE, 16: HUGE}),
    ("a lock of everything", {0: 61, 1: 1, 8: 1, 22: HUGE, 23: 9, 10: HUGE, 11: 0, 13: HUGE}),
    ("a copy of everything", {0: 74, 1: 1, 8: HUGE, 10: HUGE, 9: HUGE, 11: HUGE, 12: HUGE}),
    ("FALLOCATE of 2^63", {0: 73, 1: 1, 8: 1, 10: 1 << 63, 12: 1 << 63, 13: HUGE}), ("an unknown op", {0: 999, 1: 1}),
    ("a CANCEL of nothing", {0: 37, 1: HUGE}), ("an ACK of the future", {0: 65, 34: HUGE}),
    ("groups of 3 bytes", {0: 50, 1: 1, 4: 1, 5: b"..", 14: 0o100644, 17: b"abc"}),
    ("4096 groups", {0: 50, 1: 1, 4: 1, 5: b"..", 14: 0o100644, 17: bytes(16384)}),
)


# Messages that change something, with what "Talk" knows by name; on a writable export each succeeds, in this order.
EROFS, STRIP_IDS = 30, 1 << 32
CHANGES = (
    ("WRITE that takes set-id bits off", {0: 48, 8: "fh", 10: 0, 13: STRIP_IDS, 36: b"written"}),
    ("WRITE", {0: 48, 8: "fh", 10: 0, 36: b"written"}),
    ("FALLOCATE", {0: 73, 8: "fh", 10: 0, 12: 8192, 15: 1000, 16: 1000}),
    ("COPY", {0: 74, 8: "other", 10: 0, 9: "fh", 11: 4, 12: 3, 15: 1000, 16: 1000}),
    ("SETATTR of the size", {0: 49, 4: "file", 8: "fh", 18: 8, 12: 3, 13: STRIP_IDS}),
    ("SETATTR of the mode", {0: 49, 4: "file", 18: 1, 14: 0o600}),
    ("SETATTR of nothing", {0: 49, 4: "file", 18: 0}),
    ("OPEN for writing", {0: 44, 4: "file", 13: 1}),
    ("OPEN that truncates", {0: 44, 4: "file", 13: 0o1001}),
    ("CREATE", {0: 45, 4: "dir", 5: b"created", 13: 2, 14: 0o644}),
    ("CREATE of what is there", {0: 45, 4: "root", 5: b"set-id", 13: 1, 14: 0o644}),
    ("MKNOD of a directory", {0: 50, 4: "dir", 5: b"made", 14: 0o40755}),
    ("MKNOD of a FIFO", {0: 50, 4: "dir", 5: b"fifo", 14: 0o10644}),
    ("SYMLINK", {0: 51, 4: "dir", 5: b"symlink", 36: b"target"}),
    ("LINK", {0: 52, 4: "file", 6: "dir", 7: b"hard"}),
    ("UNLINK", {0: 53, 4: "dir", 5: b"old"}),
    ("RMDIR", {0: 54, 4: "dir", 5: b"empty"}),
    ("RENAME", {0: 55, 4: "root", 5: b"link", 6: "dir", 7: b"renamed"}),
    ("SETXATTR", {0: 63, 4: "file", 7: b"user.x", 36: b"value"}),
    ("REMOVEXATTR", {0: 71, 4: "file", 7: b"user.x"}),
)


class Talk:
    """One connection of the extended protocol, one request at a time."""

    def __init__(self, sock, hello: bytes):
        self.sock, self.id = sock, 0
        sock.sendall(hello)
        reply = decode_reply(self.receive(int.from_bytes(self.receive(4), "big")))
        self.root = cbor.decode(reply.data[8:])[4]

    def receive(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            part = self.sock.recv(count - len(out))
            if not part:
                raise EOFError("closed")
            out += part
        return out

    def call(self, fields: dict) -> dict:
        """The fields of the reply, err (2) among them, without its payload."""
        self.id += 1
        payload = fields.get(36, b"")
        body = cbor.encode(dict(sorted({**fields, 1: self.id}.items())))
        self.sock.sendall(struct.pack(">II", len(body), len(body) - len(payload)) + body)
        total, _ = struct.unpack(">II", self.receive(8))
        return cbor.decode(self.receive(total))

    def lookup(self, node: int, name: bytes) -> int:
        return self.call({0: 40, 4: node, 5: name})[4]


class Gone(Exception):
    """The server does not answer any more: no use going on."""


class Hostile:
    def __init__(self, options):
        self.options, self.passed, self.failed = options, 0, 0
        self.base = f"{options.prefix.rstrip('/')}/hostile-{options.seed}"
        self.pid = self.server_pid()
        self.rss_at_start = self.rss()

    # --- what is right

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Python's timeout would make a full backlog an error at once; this one waits in the kernel.
        wait = struct.pack("ll", int(self.options.timeout) + 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        sock.connect(self.options.socket)
        sock.settimeout(self.options.timeout)
        return sock

    def server_pid(self) -> int:
        with self.connect() as sock:
            return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def rss(self) -> int:
        """The server's resident memory in bytes; 0 when it cannot be seen."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) << 10
        return 0

    def probe(self) -> str:
        """'' when a fresh, honest client is served, else why not."""
        try:
            with PlainClient(self.options.socket, self.options.prefix, timeout=self.options.timeout) as client:
                reply = client.getattr(self.options.prefix)
            if reply.err or not (reply.stat or {}).get("is_dir"):
                return f"an honest getattr got {reply}"
            return "" if self.server_pid() == self.pid else "the server is another process now"
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise Gone(f"nobody listens any more: {error}") from None
        except (OSError, ProtocolError) as error:
            return f"an honest getattr failed: {error}"

    def verdict(self, name: str, problem: str, outcome: str = "", check_rss: bool = False) -> None:
        try:
            problem = problem or self.probe()
        except Gone:
            self.failed += 1
            print(f"FAIL {name}: the server is gone")
            raise
        grown = (self.rss() - self.rss_at_start) >> 20
        if not problem and check_rss and self.options.rss_limit and grown > self.options.rss_limit:
            problem = f"the server has grown by {grown} MiB"
        self.passed, self.failed = self.passed + (not problem), self.failed + bool(problem)
        if problem or self.options.verbose:
            print(f"{'FAIL' if problem else 'ok'} {name}: {problem or outcome}")

    # --- one connection

    def drain(self, sock: socket.socket) -> tuple[bytes, bool]:
        """Everything the server still sends, and whether it closed in time."""
        out, deadline = bytearray(), time.monotonic() + self.options.timeout
        while (left := deadline - time.monotonic()) > 0 and len(out) <= MAX_FRAME:
            sock.settimeout(left)
            try:
                part = sock.recv(1 << 20)
            except TimeoutError:
                break
            except ConnectionError:
                return bytes(out), True
            if not part:
                return bytes(out), True
            out += part
        return bytes(out), False

    def bad_answer(self, data: bytes) -> str:
        """'' when `data` is whole replies; behind what may be a HELLO's, extended frames, which are only measured."""
        offset, may_switch = 0, False
        while offset < len(data):
            length = int.from_bytes(data[offset:offset + 4], "big")
            body = data[offset + 4:offset + 4 + length]
            try:
                if len(body) < length or len(data) - offset < 4:
                    raise ProtocolError("frame cut short")
                reply = decode_reply(body)
                may_switch = may_switch or reply.err == 0 and len(reply.data) > 0
                offset += 4 + length
            except ProtocolError as error:
                head = int.from_bytes(data[offset + 4:offset + 8], "big")
                if not may_switch or head > length or length > EXTENDED_LIMIT or offset + 8 + length > len(data):
                    return f"answered with no reply: {error}: {data[offset:offset + 40].hex()}"
                offset += 8 + length
        return ""

    def strike(self, wire: bytes, rule: str = ANY) -> tuple[str, str]:
        """Sends `wire` on a connection of its own: (problem, outcome)."""
        must_close = rule == CLOSE and not self.options.lenient
        with self.connect() as sock:
            try:
                sock.sendall(wire)
                if not must_close:
                    sock.shutdown(socket.SHUT_WR)
            except TimeoutError:
                return "the server neither reads nor closes", ""
            except (ConnectionError, OSError):
                pass                                 # closed while we were sending: so be it
            data, closed = self.drain(sock)
        if not closed:
            return "not closed after what the protocol forbids" if must_close else "not closed after our end", ""
        return self.bad_answer(data), f"closed after {len(data)} bytes {data[:24].hex()}"

    def attack(self, name: str, wire: bytes, rule: str = ANY) -> None:
        self.verdict(name, *self.strike(wire, rule))

    # --- plain framing and CBOR

    def run_frames(self):
        rng, ok = random.Random(self.options.seed), encode_request(1, path=self.options.prefix)
        for length in (MAX_FRAME + 1, 1 << 31, (1 << 32) - 1):
            self.attack(f"frame length {length}", struct.pack(">I", length) + ok, CLOSE)
        for text in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"):
            self.attack(f"another protocol: {text[:8]}", text, CLOSE)
        for size in (1, 4, 7, 64, 4096, 1 << 20):
            self.attack(f"{size} random bytes", rng.randbytes(size))
            # 0xff first: no CBOR item at all
            self.attack(f"frame of {size} random bytes", frame(b"\xff" + rng.randbytes(size)), CLOSE)
        self.attack("empty frame", frame(b""), CLOSE)
        self.attack("1000 empty frames", frame(b"") * 1000, CLOSE)
        for cut in (1, 2, 3, 4, 5, 4 + len(ok) // 2, 3 + len(ok)):
            self.attack(f"frame cut to {cut} bytes", frame(ok)[:cut])
        for length in (1 << 16, 1 << 20, 60 << 20, MAX_FRAME):
            self.attack(f"{length} bytes announced, {len(ok)} sent", struct.pack(">I", length) + ok)
        self.attack("a good frame, then a cut one", frame(ok) + frame(ok)[:9])
        self.attack("1000 good frames at once", frame(ok) * 1000)

    def run_cbor(self):
        path = self.options.prefix
        for value in ([1, 2], 1, "op", None, b"op", 1.5, True, Tag(1, {}), Simple(99)):
            self.attack(f"body is {value!r}", frame(cbor.encode(value)), CLOSE)
        for extra in (b"\x00", b"\xff", cbor.encode({"op": 1}), bytes(1000)):
            self.attack(f"{len(extra)} bytes after the map", frame(encode_request(1, path=path) + extra), CLOSE)
        for byte in (0x1C, 0x1D, 0x1E, 0x1F, 0x3F, 0xDF, 0xFC, 0xFF, 0xF8):
            self.attack(f"head {byte:#04x} as a body", frame(bytes([byte])), CLOSE)
            self.attack(f"head {byte:#04x} as a value", frame(cbor.encode({"op": Raw(bytes([byte]))})), CLOSE)
        for kind, name in ((cbor.ARRAY, "arrays"), (cbor.MAP, "maps"), (cbor.TAG, "tags")):
            for depth in (33, 1000, 100_000, 5_000_000):
                nest = Raw(cbor.nested(depth, kind))
                self.attack(f"{depth} nested {name}", frame(nest), CLOSE)
                self.attack(f"{depth} nested {name} as a value", frame(cbor.encode({"op": 1, "x": nest})), CLOSE)
                self.attack(f"{depth} nested {name} as a key", frame(cbor.encode(Pairs([(nest, 1)]))), CLOSE)
        for major, name in ((cbor.BYTES, "bytes"), (cbor.TEXT, "text"), (cbor.ARRAY, "array"), (cbor.MAP, "map")):
            for length in (HUGE, HUGE - 8, 1 << 63, (1 << 63) - 1, 1 << 62, 1 << 32, (1 << 31) - 1, 1 << 20, 64):
                claim = Claim(major, length, b"\x00" * 16)
                self.attack(f"{name} of {length}", frame(cbor.encode(claim)), CLOSE)
                self.attack(f"{name} of {length} as a value", frame(cbor.encode({"op": 1, "path": claim})), CLOSE)
            self.attack(f"{name} of {HUGE} as a key", frame(b"\xa1" + cbor.encode(Claim(major, HUGE))), CLOSE)
            self.attack(f"indefinite {name} without end", frame(bytes([major << 5 | 31]) + bytes(64)), CLOSE)
        for name, value in (("map", Indef({"op": 1, "path": path})), ("text", {"op": 1, "path": Indef(path)}),
                            ("bytes", {"op": 4, "fh": 1, "data": Indef(b"x")}), ("key", {Indef("op"): 1}),
                            ("array", {"op": 1, "x": Indef([1])}), ("empty", Indef({})),
                            ("many chunks", {"op": 4, "data": Indef([b"x"] * 100_000)})):
            body = cbor.encode(Pairs(value.items()) if isinstance(value, dict) else value)
            self.attack(f"indefinite {name}", frame(body), CLOSE)
        for raw in (b"\xff", b"/\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", path.encode() + b"/\x80"):
            for key in ("path", "new_path"):
                # Go's encoder sends such bytes as text: one odd name must not end an honest guest's mount
                self.attack(f"{key} {raw!r}", frame(cbor.encode({"op": 1, key: BadText(raw)})), ANY)
            self.attack(f"key {raw!r}", frame(cbor.encode(Pairs([("op", 1), (BadText(raw), 1)]))), CLOSE)

    def run_fields(self):
        path = self.options.prefix
        for width in (1, 2, 4, 8):
            for name, body in (("op", {"op": Wide(1, width), "path": path}),
                               ("path", {"op": 1, "path": Wide(path, width)}),
                               ("key", Pairs([(Wide("op", width), 1)])), ("map", Wide({"op": 1, "path": path}, width)),
                               ("fh", {"op": 3, "fh": Wide(1, width), "sz": 9})):
                self.attack(f"{name} with a head of {width} bytes", frame(cbor.encode(body)))
        wrong = (None, True, False, -1, 0, HUGE, -(1 << 64), 1 << 32, 1.5, "", "text", b"", b"\xff\xfe", [], [1], {},
                 {"a": 1}, Tag(0, "x"), Tag(2, b"\xff" * 9), Simple(0), Simple(255), cbor.UNDEFINED)
        for key in REQUEST_KEYS:
            for value in wrong:
                for op in (1, 3, 4, 5, 10):
                    request = {"op": op, "path": f"{self.base}/type", "fh": 1, key: value}
                    problem, outcome = self.strike(frame(cbor.encode(request)))
                    if problem:
                        break
                self.verdict(f"{key} = {value!r}", problem, outcome)
        many = [(f"k{number}", number) for number in range(100_000)]
        for name, body in (("twice op", Pairs([("op", 1), ("op", 7), ("path", path)])),
                           ("twice path", Pairs([("op", 1), ("path", path), ("path", "/etc/passwd")])),
                           ("path 100,000 times", Pairs([("op", 1)] + [("path", path)] * 100_000)),
                           ("no op", {"path": path}), ("nothing", {}), ("a reply", {"err": 0, "data": b"x"}),
                           ("unknown keys", {"op": 1, "path": path, "x": 1, 5: 6}),
                           ("100,000 unknown keys", Pairs([("op", 1), *many])), ("integer keys", {0: 1, 1: path}),
                           ("keys out of order", {"gid": 1, "path": path, "op": 1}),
                           ("null key", Pairs([(None, 1), ("op", 1)])), ("array key", Pairs([(Raw(b"\x81\x01"), 1)])),
                           ("key of 1 MiB", {"x" * (1 << 20): 1}),
                           ("path of 1 MiB", {"op": 1, "path": "/" + "p" * (1 << 20)}),
                           ("NULs", {"op": 5, "path": f"{self.base}/\0\0", "mode": 0o600}),
                           ("300,000 times ..", {"op": 1, "path": path + "/.." * 300_000}),
                           ("300,000 slashes", {"op": 0, "path": path + "/" * 300_000}),
                           ("data where none belongs", {"op": 1, "path": path, "data": bytes(1 << 20)}),
                           ("write of 60 MiB", {"op": 4, "fh": 77, "data": bytes(60 << 20)}),
                           ("read of 4 GiB", {"op": 3, "fh": 1, "sz": (1 << 32) - 1}),
                           ("offsets", {"op": 3, "fh": 1, "off": (1 << 63) - 1, "sz": (1 << 32) - 1})):
            self.attack(name, frame(cbor.encode(body)))

    # --- extended framing

    def hello(self) -> bytes:
        text = self.options.hello
        if text and text.startswith("@"):
            with open(text[1:], encoding="ascii") as file:
                text = file.read().strip()
            text = json.loads(text)["hello_request"] if text.startswith("{") else text
        return bytes.fromhex(text) if text else HELLO

    def run_hello(self):
        for op in list(range(32, 48)) + [63, 64, 65, 66, 255, 256, 65535, 1 << 31]:
            self.attack(f"op {op} before HELLO", frame(encode_request(op)))
            self.attack(f"op {op} with empty data", frame(cbor.encode({"op": op, "data": b""})))
        hello = self.hello()
        for name, data in (("text", "hello"), ("a number", 1), ("a map", {1: 2}), ("garbage", b"\xff" * 64),
                           ("a map of 2^64-1", cbor.encode(Claim(cbor.MAP, HUGE))), ("1 MiB", bytes(1 << 20)),
                           ("nesting", cbor.nested(100_000)), ("bytes of 2^64-1", Claim(cbor.BYTES, HUGE)),
                           ("a byte less", hello[:-1]), ("a byte more", hello + b"\0"), ("itself twice", hello * 2)):
            self.attack(f"HELLO with {name}", frame(cbor.encode({"op": 32, "data": data})))
        rng = random.Random(self.options.seed)
        for number in range(100):
            mutated = cbor.encode({"op": 32, "data": mutate(rng, hello)})
            self.attack(f"mutated HELLO {number}", frame(mutated))
        self.attack("HELLO after a getattr", frame(encode_request(1, path=self.options.prefix)) + self.hello_frame())

    def hello_frame(self) -> bytes:
        return frame(cbor.encode({"op": 32, "data": self.hello()}))

    def run_extended(self):
        """Frames behind a HELLO; only behind an accepted one can the server be held to closing."""
        accepted = False
        with PlainClient(self.options.socket, self.options.prefix) as client, contextlib.suppress(ProtocolError):
            reply = client.request(32, data=self.hello())
            accepted = reply.err == 0 and len(reply.data) > 0
        print(f"note extended: HELLO {'accepted' if accepted else 'refused, the frames are sent blind'}")
        if not accepted and self.options.need_extended:
            self.verdict("extended: HELLO", "refused")
        rule, hello = CLOSE if accepted else ANY, self.hello_frame()

        def ext(total: int, head: int, body: bytes) -> bytes:
            return hello + struct.pack(">II", total, head) + body

        def whole(body: bytes) -> bytes:
            return ext(len(body), len(body), body)

        small, data = cbor.encode({0: 35, 1: 1}), b"x" * 100
        last = cbor.head(cbor.MAP, 2) + b"\x00\x18\x26\x18\x24" + cbor.head(cbor.BYTES, len(data))   # FORGET: `data` follows
        top = (1 << 32) - 1
        for name, wire in (("total 2^32-1", ext(top, 8, small)), ("head 2^32-1", ext(64, top, small)),
                           ("both 2^32-1", ext(top, top, small)), ("nothing", ext(0, 0, b"")),
                           ("head above total", ext(len(small), len(small) + 1, small)),
                           ("head of nothing", ext(100, 0, data)), ("payload over 1 MiB", ext((1 << 20) + 9, 8, small)),
                           ("head over 64 KiB", whole(bytes(65537))), ("no map", whole(b"\x00")),
                           ("a break", whole(b"\xff")), ("a cut map", whole(small[:-1])),
                           ("bytes after the map", whole(small + b"\0")),
                           ("a payload shorter than its header", ext(len(last) + 99, len(last), last + data)),
                           ("a payload longer than its header", ext(len(last) + 101, len(last), last + data + b"x")),
                           ("a payload without its key", ext(len(small) + 100, len(small), small + data)),
                           ("depth 9", whole(b"\xa1\x00" + cbor.nested(9))),
                           ("depth 60,000", whole(b"\xa1\x00" + cbor.nested(60_000))),
                           ("an indefinite map", whole(b"\xbf\x00\x01\xff")),
                           *((f"a length of {n} in major {m}", whole(b"\xa1\x00" + cbor.encode(Claim(m, n))))
                             for m in (2, 3, 4, 5) for n in (HUGE, 1 << 63)),
                           ("a key that is none", whole(cbor.encode({0: 35, 1: 1, 99: 1}))),
                           ("a key twice", whole(cbor.encode(Pairs([(0, 35), (1, 1), (1, 1)])))),
                           ("no op", whole(cbor.encode({1: 1}))), ("no id", whole(cbor.encode({0: 40, 4: 1, 5: b"x"}))),
                           ("no name", whole(cbor.encode({0: 40, 1: 1, 4: 1}))),
                           ("a name as text", whole(cbor.encode({0: 40, 1: 1, 4: 1, 5: "x"}))),
                           ("a negative node", whole(cbor.encode({0: 41, 1: 1, 4: -1}))),
                           ("HELLO once more", whole(cbor.encode({0: 32, 1: 1, 29: 1}))),
                           *((f"op {op}, a server's", whole(cbor.encode({0: op, 1: 1, 34: 1}))) for op in (64, 66)),
                           ("a plain frame", hello + frame(encode_request(1, path="/" + "p" * 300)))):
            self.attack(f"extended: {name}", wire, rule)
        for name, request in EXTENDED_ODD:
            self.attack(f"extended: {name}", whole(cbor.encode(request)))
        for cut in range(1, 8 + len(small)):
            self.attack(f"extended: cut to {cut}", ext(len(small), len(small), small)[:len(hello) + cut])
        for number in range(self.options.iterations // 4):
            rng = random.Random(f"{self.options.seed}-extended-{number}")
            body = mutate(rng, rng.choice((small, last, *(cbor.encode(request) for _, request in EXTENDED_ODD))))
            total = len(body) + rng.choice((0, 0, 0, 1, 100))
            wire = ext(total, min(total, len(body)), body + bytes(total - len(body)))
            self.attack(f"extended: mutation {number}", mutate(rng, wire[len(hello):], hello))

    # --- a read-only export

    def run_readonly(self):
        """Everything that changes something, by an open file that there is: EROFS, or with --writable done.

        What became of the files is for whoever made them to say: "set-id", "dir/empty", "dir/old" and "link".
        """
        for name, *request in CHANGES:
            with self.connect() as sock:
                talk = Talk(sock, self.hello_frame())
                known = {"root": talk.root, "dir": talk.lookup(talk.root, b"dir"), "file": talk.lookup(talk.root, b"set-id")}
                access = 2 if self.options.writable else 0
                known["fh"] = talk.call({0: 44, 4: known["file"], 13: access})[8]
                known["other"] = talk.call({0: 44, 4: known["file"], 13: 0})[8]
                fields = {key: known.get(value, value) for key, value in request[0].items()}
                err = talk.call(fields).get(2, 0)
            wanted = 0 if self.options.writable else EROFS
            self.verdict(f"read-only: {name}", "" if err == wanted else f"errno {err} instead of {wanted}")
        if not self.options.writable:
            self.mutate_changes()

    def mutate_changes(self) -> None:
        """The same with any value anywhere: whatever is answered, nothing is changed."""
        for number in range(self.options.iterations):
            rng = random.Random(f"{self.options.seed}-readonly-{number}")
            with self.connect() as sock, contextlib.suppress(ConnectionError, EOFError):
                talk = Talk(sock, self.hello_frame())
                values = [talk.root, talk.lookup(talk.root, b"dir"), talk.lookup(talk.root, b"set-id"), 0, 1, 2, 3, 0o6777, HUGE,
                          1 << 32, rng.getrandbits(64), b"set-id", b"dir", b"old", b"empty", b"new", b"user.x"]
                for _ in range(8):
                    fields = dict(rng.choice(CHANGES)[1])
                    for key in fields:
                        if key:
                            same = [v for v in values if isinstance(v, bytes) == isinstance(fields[key], bytes)]
                            fields[key] = rng.choice(same)
                    talk.call(fields)
        self.verdict(f"read-only: {self.options.iterations} mutations", "")

    # --- resources

    def run_crowds(self):
        ok = frame(encode_request(1, path=self.options.prefix))
        crowd = self.options.connections

        def held(name: str, first: bytes, count: int) -> None:
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    sock = stack.enter_context(self.connect())
                    with contextlib.suppress(ConnectionError):
                        sock.sendall(first)
                self.verdict(f"{count} connections {name}, held open", "", check_rss=True)
            self.verdict(f"{count} connections {name}, left", "", check_rss=True)

        held("that say nothing", b"", crowd)
        held("with half a length", ok[:2], crowd)
        held("with half a frame", ok[:-3], crowd)
        held("announcing 60 MiB", struct.pack(">I", 60 << 20) + ok[4:], crowd)
        held("announcing a string of 60 MiB",
             struct.pack(">I", 60 << 20) + b"\xa2\x62op\x04\x64data" + cbor.head(cbor.BYTES, (60 << 20) - 14), crowd)
        for _ in range(crowd):
            self.connect().close()
        self.verdict(f"{crowd} connections opened and closed", "", check_rss=True)
        for _ in range(crowd):
            with self.connect() as sock, contextlib.suppress(ConnectionError):
                sock.sendall(ok)                     # gone before the reply
        self.verdict(f"{crowd} connections that do not wait for their reply", "", check_rss=True)

    def run_slow(self):
        """Slow-loris: frames dripping in byte by byte hold up nobody, and are answered in the end."""
        ok = frame(encode_request(1, path=self.options.prefix))
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self.connect()) for _ in range(50)]
            problem = ""
            for at in range(len(ok)):
                with contextlib.suppress(ConnectionError):
                    for sock in socks:
                        sock.sendall(ok[at:at + 1])
                problem = problem or self.probe()
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                data, closed = self.drain(sock)
                problem = problem or ("" if closed else "not closed") or self.bad_answer(data)
            self.verdict("50 frames in single bytes", problem, check_rss=True)

    def run_deaf(self):
        """Clients that ask on and on and never read: they may get stuck, alone."""
        for name, request in (("readdir", encode_request(12, path=self.options.prefix)),
                              ("unknown op", encode_request(63))):
            with contextlib.ExitStack() as stack:
                for _ in range(8):
                    sock = stack.enter_context(self.connect())
                    sock.setblocking(False)
                    sent = 0
                    # Writable no more for 200 ms: the server is stuck with its replies, or has closed.
                    while sent < 16 << 20 and select.select([], [sock], [], 0.2)[1]:
                        try:
                            sent += sock.send(frame(request) * 500)
                        except BlockingIOError:
                            continue
                        except ConnectionError:
                            break
                self.verdict(f"8 deaf clients asking {name}", "", check_rss=True)
            self.verdict(f"8 deaf clients asking {name}, left", "", check_rss=True)

    # --- fuzz

    def seeds(self) -> list[bytes]:
        b = self.base
        return [encode_request(op, **fields) for op, fields in (
            (0, {"path": f"{b}/file"}), (1, {"path": b}), (2, {"path": f"{b}/file", "mode": 0o640}),
            (3, {"fh": 1, "off": 3, "sz": 4096}), (4, {"fh": 1, "off": 7, "data": b"payload" * 9}),
            (5, {"path": f"{b}/new", "flags": 0o102, "mode": 0o644, "uid": 1000, "gid": 1000}),
            (6, {"path": f"{b}/dir", "mode": 0o755}), (7, {"path": f"{b}/new"}),
            (8, {"path": f"{b}/dir"}), (9, {"path": f"{b}/new", "new_path": f"{b}/newer"}),
            (10, {"path": f"{b}/file", "flags": 2}), (11, {"fh": 1}), (12, {"path": b}), (13, {"fh": 1}),
            (14, {"path": f"{b}/x/y", "mode": 0o755}), (15, {"path": f"{b}/file", "off": 9, "sz": 9}),
            (16, {"path": f"{b}/link", "new_path": f"{b}/link2"}), (17, {"path": f"{b}/link"}),
            (18, {"path": f"{b}/file", "new_path": f"{b}/hard"}), (32, {"data": self.hello()}))]

    def run_fuzz(self):
        seeds, first = self.seeds(), self.options.first
        with PlainClient(self.options.socket, self.options.prefix) as client:
            client.mkdir(self.base)
            client.create(f"{self.base}/file")
        clean = True
        for number in range(first, first + self.options.iterations):
            rng = random.Random(f"{self.options.seed}-{number}")
            wire = frame(encode_request(10, path=f"{self.base}/file", flags=2))   # so that handle 1 may exist
            for _ in range(rng.randrange(1, 4)):
                body = invent(rng) if rng.random() < 0.3 else mutate(rng, rng.choice(seeds))
                wire += frame(body) if rng.random() < 0.8 else mutate(rng, frame(body))
            problem, _ = self.strike(wire)
            try:
                problem = problem or self.probe()
            except Gone:
                print(f"FAIL fuzz {number}: the server is gone after {wire.hex()}")
                self.failed += 1
                raise
            if problem:
                print(f"FAIL fuzz {number}: {problem}; sent {wire[:400].hex()}")
                self.failed, clean = self.failed + 1, False
            if (number + 1) % 100 == 0 or number == first + self.options.iterations - 1:
                self.passed, clean = self.passed + clean, True
        self.verdict(f"memory after {self.options.iterations} iterations", "", check_rss=True)

    def clean_up(self) -> None:
        def remove(path: str) -> None:
            for entry in client.readdir(path).entries:
                child = f"{path}/{entry['name']}"
                remove(child) if entry["is_dir"] else client.unlink(child)
            client.rmdir(path)

        with contextlib.suppress(OSError, ProtocolError, RecursionError):
            with PlainClient(self.options.socket, self.options.prefix) as client:
                remove(self.base)


def mutate(rng: random.Random, body: bytes, before: bytes = b"") -> bytes:
    """`before`, then `body` with one to four small changes."""
    out = bytearray(body)
    for _ in range(rng.randrange(1, 5)):
        at, kind = rng.randrange(len(out) + 1), rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice((0x00, 0x17, 0x18, 0x1B, 0x1F, 0x3B, 0x5B, 0x5F, 0x7B, 0x7F, 0x9B, 0xBB, 0xBF, 0xFF))
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del out[at:at + rng.randrange(1, 9)]
        elif kind == 4:
            out[at:at] = out[at:at + rng.randrange(1, 33)]
        elif kind == 5:
            out[at:at + 9] = cbor.head(rng.randrange(8), rng.choice((HUGE, 1 << 63, 1 << 32, 1 << 31, 65536, 255)), 8)
        else:
            del out[at:]
    return before + bytes(out)


def invent(rng: random.Random, depth: int = 0) -> bytes:
    """A request-like map of anything."""
    def value():
        return rng.choice((
            lambda: rng.getrandbits(rng.choice((3, 8, 16, 32, 64))), lambda: Simple(255), lambda: rng.random(),
            lambda: -1 - rng.getrandbits(rng.choice((3, 32, 63, 64))), lambda: Wide(rng.randrange(300), 8),
            lambda: rng.randbytes(rng.randrange(40)), lambda: BadText(rng.randbytes(rng.randrange(1, 20))),
            lambda: "/workspace/" + "a/" * rng.randrange(9), lambda: [1] * rng.randrange(9), lambda: None,
            lambda: Raw(cbor.nested(rng.randrange(1, 300), rng.choice((cbor.ARRAY, cbor.MAP, cbor.TAG)))),
            lambda: Indef([b"x", b"y"]), lambda: Indef({1: 2}),
            lambda: Claim(rng.randrange(2, 6), rng.getrandbits(64), rng.randbytes(rng.randrange(20)))))()

    keys = rng.sample(REQUEST_KEYS, rng.randrange(len(REQUEST_KEYS)))
    pairs = Pairs([("op", rng.choice((rng.randrange(70), value()))), *((key, value()) for key in keys)])
    return cbor.encode(rng.choice((pairs, pairs, pairs, Indef(pairs), Wide(pairs, 4), [pairs])))


GROUPS = ("frames", "cbor", "fields", "hello", "extended", "crowds", "slow", "deaf", "fuzz")
MORE = ("readonly",)  # for a server of their own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--socket", required=True, metavar="PATH")
    add("--prefix", default="/workspace")
    add("--seed", type=int, default=1, metavar="N")
    add("--iterations", type=int, default=2000, metavar="N", help="of the fuzzer")
    add("--first", type=int, default=0, metavar="N", help="the fuzzer's first iteration")
    add("--only", action="append", choices=GROUPS + MORE, help="these groups only")
    add("--hello", metavar="HEX|@FILE", help="the data of HELLO, other than the protocol's own")
    add("--need-extended", action="store_true", help="the server must take that HELLO")
    add("--connections", type=int, default=300, metavar="N", help="of a crowd")
    add("--rss-limit", type=int, default=128, metavar="MIB", help="what the server may grow by; 0: do not look")
    add("--timeout", type=float, default=5, metavar="S", help="for each answer")
    add("--writable", action="store_true", help="of readonly: the twin, where all of it succeeds")
    add("--lenient", action="store_true", help="what is forbidden may also be answered")
    add("--verbose", action="store_true")
    options = parser.parse_args()
    hostile = Hostile(options)
    try:
        if problem := hostile.probe():
            raise Gone(f"not a server to begin with: {problem}")
        for group in options.only or GROUPS:
            getattr(hostile, f"run_{group}")()
    except (Gone, OSError) as error:
        hostile.failed += not hostile.failed
        print(f"FAIL stopped: {error}")
    hostile.clean_up()
    print(f"{hostile.passed} passed, {hostile.failed} failed")
    return hostile.failed > 0


if __name__ == "__main__":
    sys.exit(main())
