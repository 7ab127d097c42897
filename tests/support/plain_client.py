#!/usr/bin/python3
"""The plain protocol's client side, as the seed's guest speaks it, and a conformance session.

    from plain_client import PlainClient
    with PlainClient("/run/vfs.sock", "/workspace") as client:
        reply = client.lookup("/workspace/a")        # reply.err, reply.stat, reply.data, ...

    plain_client.py --socket PATH [--prefix /workspace] selftest DIR [--go] [--only WORD]

`selftest` runs against the server at PATH whose root is the host directory DIR and checks each result on
the host. It works in a directory of its own inside DIR and removes it. `--go` is for plain_server.py: what
existing servers are known to do differently is printed as `known` and not counted as a failure.

A PlainClient sends keys in declared order, zeros left out, integers in their shortest form. Of a reply it
wants one definite, shortest map with `err`, its keys in order, its types right; anything else is a
ProtocolError. The server's errors are no exceptions: they are `reply.err`, a negative errno.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import socket
import stat
import struct
import sys
import tempfile
import time
from dataclasses import dataclass

import minicbor as cbor

REQUEST_KEYS = ("op", "path", "new_path", "fh", "off", "sz", "data", "flags", "mode", "uid", "gid", "atime_ns", "mtime_ns")
REPLY_KEYS = {"err": int, "stat": dict, "data": bytes, "written": int, "fh": int, "entries": list}
STAT_KEYS = {"size": int, "mode": int, "mtime": int, "is_dir": bool, "ino": int, "uid": int, "gid": int}
ENTRY_KEYS = {"name": str, "is_dir": bool, "mode": int, "size": int, "ino": int}
MAX_FRAME = 64 << 20
ZEROS = {int: 0, bytes: b"", bool: False, str: ""}
NO_STAT = {key: ZEROS[kind] for key, kind in STAT_KEYS.items()}


class ProtocolError(Exception):
    """The server sent something that is not a reply."""


class Disconnected(ProtocolError):
    """The server closed the connection where a reply was due."""


@dataclass
class Reply:
    err: int
    stat: dict | None
    data: bytes
    written: int
    fh: int
    entries: list


def encode_request(op: int, **fields) -> bytes:
    """The CBOR of a request as the seed's encoder makes it."""
    if unknown := set(fields) - set(REQUEST_KEYS):
        raise TypeError(f"no such request field: {unknown}")
    return cbor.encode({"op": op, **{key: fields[key] for key in REQUEST_KEYS if fields.get(key)}})


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _fields(value: dict, keys: dict, what: str, required: str = "") -> dict:
    """`value` with absent and null fields as zeros, after a check of its keys, their order and types."""
    if not isinstance(value, dict) or required and required not in value:
        raise ProtocolError(f"{what} is not a map with {required!r}: {value!r:.100}")
    if list(value) != [key for key in keys if key in value]:
        raise ProtocolError(f"{what} has unknown keys, or keys out of order: {list(value)}")
    out = {}
    for key, kind in keys.items():
        out[key] = value[key] if value.get(key) is not None else ZEROS.get(kind)
        if not isinstance(out[key], (kind, type(ZEROS.get(kind)))) or kind is int and isinstance(out[key], bool):
            raise ProtocolError(f"{what}.{key} is a {type(out[key]).__name__}, not a {kind.__name__}")
    return out


def decode_reply(body: bytes) -> Reply:
    try:
        top = _fields(cbor.decode(body), REPLY_KEYS, "reply", "err")
    except cbor.CBORError as error:
        raise ProtocolError(f"reply is not plain CBOR: {error}") from None
    if top["err"] > 0:
        raise ProtocolError(f"err {top['err']} is positive")
    if top["stat"] is not None:
        top["stat"] = _fields(top["stat"], STAT_KEYS, "stat")
    top["entries"] = [_fields(entry, ENTRY_KEYS, "entry", "name") for entry in top["entries"] or []]
    return Reply(**top)


class PlainClient:
    """One connection. A method per op; `uid` and `gid` of the caller go into every request."""

    def __init__(self, socket_path: str, prefix: str = "/workspace", uid: int = 0, gid: int = 0, timeout: float = 10):
        self.prefix, self.uid, self.gid = prefix, uid, gid
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(socket_path)               # blocking: a timeout would make a full backlog an error
        self.sock.settimeout(timeout)

    def __enter__(self) -> PlainClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def path(self, *names: str) -> str:
        """The guest path of `names` below the prefix."""
        return "/".join((self.prefix.rstrip("/"), *names)) or "/"

    # --- the wire

    def send(self, op: int, **fields) -> None:
        """Sends a request and does not wait for its reply."""
        self.sock.sendall(frame(encode_request(op, **{"uid": self.uid, "gid": self.gid, **fields})))

    def _receive(self, count: int, what: str) -> bytes:
        out = bytearray()
        while len(out) < count:
            try:
                part = self.sock.recv(min(count - len(out), 1 << 20))
            except ConnectionError as error:
                raise Disconnected(f"{what}: {error}") from None
            except TimeoutError:
                raise ProtocolError(f"{what}: nothing came for {self.sock.gettimeout()} s") from None
            if not part:
                raise Disconnected(f"{what}: closed after {len(out)} of {count} bytes")
            out += part
        return bytes(out)

    def receive(self) -> Reply:
        length, = struct.unpack(">I", self._receive(4, "reply length"))
        if length > MAX_FRAME:
            raise ProtocolError(f"reply of {length} bytes")
        return decode_reply(self._receive(length, "reply"))

    def request(self, op: int, **fields) -> Reply:
        try:
            self.send(op, **fields)
        except ConnectionError as error:
            raise Disconnected(f"request: {error}") from None
        return self.receive()

    # --- one method per op, in the order of the op numbers

    def lookup(self, path: str) -> Reply: return self.request(0, path=path)
    def getattr(self, path: str, fh: int = 0) -> Reply: return self.request(1, path=path, fh=fh)
    def setattr(self, path: str, mode: int) -> Reply: return self.request(2, path=path, mode=mode)
    def read(self, fh: int, off: int, sz: int) -> Reply: return self.request(3, fh=fh, off=off, sz=sz)
    def write(self, fh: int, off: int, data: bytes) -> Reply: return self.request(4, fh=fh, off=off, data=data)
    def create(self, path: str, mode: int = 0o644, flags: int = 0) -> Reply:
        return self.request(5, path=path, flags=flags, mode=mode)
    def mkdir(self, path: str, mode: int = 0o755) -> Reply: return self.request(6, path=path, mode=mode)
    def unlink(self, path: str) -> Reply: return self.request(7, path=path)
    def rmdir(self, path: str) -> Reply: return self.request(8, path=path)
    def rename(self, path: str, new_path: str) -> Reply: return self.request(9, path=path, new_path=new_path)
    def open(self, path: str, flags: int = 0) -> Reply: return self.request(10, path=path, flags=flags)
    def release(self, fh: int) -> Reply: return self.request(11, fh=fh)
    def readdir(self, path: str) -> Reply: return self.request(12, path=path)
    def fsync(self, fh: int) -> Reply: return self.request(13, fh=fh)
    def mkdirall(self, path: str, mode: int = 0o755) -> Reply: return self.request(14, path=path, mode=mode)
    def truncate(self, path: str, size: int, size_field: str = "off", fh: int = 0) -> Reply:
        return self.request(15, path=path, fh=fh, **{size_field: size})
    def symlink(self, target: str, link: str, target_field: str = "path") -> Reply:
        """The protocol's description does not say which field is which: `target_field` names the target's."""
        if target_field == "path":
            return self.request(16, path=target, new_path=link)
        return self.request(16, path=link, **{target_field: target.encode() if target_field == "data" else target})
    def readlink(self, path: str) -> Reply: return self.request(17, path=path)
    def link(self, path: str, new_path: str) -> Reply: return self.request(18, path=path, new_path=new_path)
    def fsync_path(self, path: str) -> Reply: return self.request(19, path=path)
    def times(self, path: str, atime_ns: int, mtime_ns: int) -> Reply:
        return self.request(20, path=path, atime_ns=atime_ns, mtime_ns=mtime_ns)


# --- the conformance session -------------------------------------------------------------------------

SECRET = b"from outside the root\n" * 353           # a size that nothing else has


class SelfTest:
    """Each method `t_NAME` is a group of checks, run on a connection and in a host directory of its own."""

    def __init__(self, options):
        self.options, self.passed, self.failed, self.group = options, 0, 0, ""
        self.outside = tempfile.mkdtemp(prefix="outside-")
        os.chmod(self.outside, 0o755)                # its mode is not what keeps the server out
        pathlib.Path(self.outside, "secret").write_bytes(SECRET)

    def run(self) -> None:
        for name in [name for name in vars(SelfTest) if name.startswith("t_") and self.options.only in name]:
            self.group, self.work = name[2:], tempfile.mkdtemp(prefix="selftest-", dir=self.options.dir)
            os.chmod(self.work, 0o755)
            try:
                with self.connect() as self.c:
                    credentials = self.c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    self.server_pid, self.server_uid, _ = struct.unpack("3i", credentials)
                    getattr(self, name)()
            except (ProtocolError, OSError) as error:
                self.check(False, f"{type(error).__name__}: {error}")
            finally:
                shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.outside)

    def connect(self, **more) -> PlainClient:
        return PlainClient(self.options.socket, self.options.prefix, **more)

    def check(self, ok, what: str, known: str = "") -> bool:
        """Counts; `known` says how existing servers are allowed to fail this."""
        tolerated = known and self.options.go
        if not ok:
            print(f"{'known' if tolerated else 'FAIL'} {self.group}: {what}", f"({known})" if known else "")
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok and not tolerated)
        return bool(ok)

    def same(self, got, want, what: str, known: str = "") -> bool:
        return self.check(got == want, f"{what}: {got!r:.200} instead of {want!r:.200}", known)

    def err(self, reply: Reply, want, what: str, known: str = "") -> Reply:
        ok = reply.err in (want if isinstance(want, tuple) else (want,))
        self.check(ok, f"{what}: err {reply.err} instead of {want}", known)
        return reply

    def good(self, reply: Reply, what: str, known: str = "") -> Reply:
        return self.err(reply, 0, what, known)

    def refused(self, reply: Reply, what: str) -> None:
        self.check(reply.err < 0, f"{what}: not refused")
        self.same((reply.data, reply.entries, reply.stat or NO_STAT), (b"", [], NO_STAT), f"{what}: content")

    def host(self, *names: str) -> str:
        return os.path.join(self.work, *names)

    def g(self, *names: str) -> str:
        return self.c.path(os.path.basename(self.work), *names)

    def put(self, name: str, data: bytes = b"", mode: int = 0o644) -> str:
        pathlib.Path(self.host(name)).write_bytes(data)
        os.chmod(self.host(name), mode)
        return self.g(name)

    def content(self, name: str) -> bytes:
        return pathlib.Path(self.host(name)).read_bytes()

    def opened(self, path: str, flags: int = os.O_RDONLY) -> int:
        fh = self.good(self.c.open(path, flags), f"open {path} flags {flags:#o}").fh
        self.check(fh != 0, "a handle is not 0, which would be left out of the request")
        return fh

    # --- groups

    def t_request_bytes(self):
        for op, fields, want in (
                (3, {"sz": 131072, "off": 300, "fh": 1}, "a4626f70036266680163 6f666619012c62737a1a00020000"),
                (9, {"path": "/a", "new_path": "/b"}, "a3626f7009647061 7468622f61686e65775f70617468622f62"),
                (4, {"data": b"", "off": -1}, "a2626f7004636f666620"), (0, {}, "a1626f7000")):
            self.same(encode_request(op, **fields).hex(), want.replace(" ", ""), f"request of op {op}")

    def t_stat(self):
        self.put("f", b"hello", 0o640)
        os.utime(self.host("f"), ns=(0, 1234567890_987654321))
        os.mkdir(self.host("d"))
        for name in ("f", "d"):
            info, stat_ = os.stat(self.host(name)), self.good(self.c.lookup(self.g(name)), name).stat or NO_STAT
            self.same((stat_["mode"] & 0o777, stat_["is_dir"]), (info.st_mode & 0o777, name == "d"), f"mode of {name}")
            self.same(stat_["mtime"], int(info.st_mtime_ns // 10**9), f"mtime of {name} in whole seconds")
            self.check(stat_["ino"] != 0, "ino is not 0")
            self.same(self.good(self.c.getattr(self.g(name)), "getattr").stat, stat_, "getattr like lookup")
            inos = {entry["name"]: entry["ino"] for entry in self.c.readdir(self.g()).entries}
            self.same(inos.get(name), stat_["ino"], "readdir's ino is lookup's")
        self.same((self.c.lookup(self.g("f")).stat or {}).get("size"), 5, "size")
        self.check((self.good(self.c.getattr(self.c.path()), "the prefix").stat or {}).get("is_dir"), "prefix is_dir")
        fh = self.opened(self.g("f"))
        self.same((self.good(self.c.getattr(self.g("f"), fh), "with fh").stat or {}).get("size"), 5, "getattr with fh")
        for path, want in (("no", -2), ("no/x", -2), ("f/x", -20), ("n" * 255, -2), ("n" * 256, -36)):
            self.err(self.c.lookup(self.g(path)), want, f"lookup {path[:9]}")
            self.err(self.c.getattr(self.g(path)), want, f"getattr {path[:9]}")

    def t_setattr(self):
        path = self.put("f", b"", 0o644)
        for mode in (0o600, 0o777, stat.S_IFREG | 0o640):
            self.good(self.c.setattr(path, mode), f"chmod {mode:o}")
            self.same(os.stat(self.host("f")).st_mode, stat.S_IFREG | mode & 0o777, "mode on the host")
        self.err(self.c.setattr(self.g("no"), 0o600), -2, "chmod of nothing")

    def t_create(self):
        reply = self.good(self.c.create(self.g("f"), 0o640, os.O_RDWR), "create")
        self.check(reply.fh and reply.stat and not reply.stat["is_dir"], "create answers fh and stat")
        self.same(stat.S_IMODE(os.stat(self.host("f")).st_mode), 0o640, "mode on the host")
        self.same(self.good(self.c.write(reply.fh, 0, b"abc"), "write").written, 3, "written")
        self.same(self.good(self.c.read(reply.fh, 1, 9), "read of a created file").data, b"bc", "data")
        self.good(self.c.release(reply.fh), "release")
        self.good(self.c.create(self.g("f"), 0o600, os.O_RDWR | os.O_TRUNC), "create over a file")
        self.same(self.content("f"), b"", "create truncates")
        self.c.create(self.g("open"), 0o666)
        self.same(stat.S_IMODE(os.stat(self.host("open")).st_mode), 0o666, "the guest has applied its umask",
                  "the server applies its own")
        self.err(self.c.create(self.g("f"), 0o600, os.O_RDWR | os.O_CREAT | os.O_EXCL), -17, "create O_EXCL",
                 "flags are ignored")
        os.mkdir(self.host("d"))
        for path, want in (("no/f", -2), ("f/f", -20), ("d", -21), ("n" * 256, -36)):
            self.err(self.c.create(self.g(path)), want, f"create {path[:9]}")

    def t_read_write(self):
        fh = self.opened(self.put("f", b"0123456789"), os.O_RDWR)
        for off, size, want in ((0, 4, b"0123"), (8, 4, b"89"), (10, 4, b""), (1 << 40, 4, b""), (3, 0, b""),
                                (0, 0xFFFFFFFF, b"0123456789")):
            self.same(self.good(self.c.read(fh, off, size), f"read {off} {size}").data, want, f"read {off} {size}")
        self.err(self.c.read(fh, -1, 4), -22, "read at -1")
        self.err(self.c.write(fh, -1, b"x"), -22, "write at -1")
        self.same(self.good(self.c.write(fh, 2, b"ab"), "write").written, 2, "written")
        self.same(self.good(self.c.write(fh, 0, b""), "empty write").written, 0, "written of an empty write")
        self.good(self.c.write(fh, 20, b"end"), "write beyond the end")
        self.same(self.content("f"), b"01ab456789" + bytes(10) + b"end", "file on the host")
        self.err(self.c.write(fh, (1 << 63) - 1, b"x"), (-22, -27), "write at 2^63-1")
        self.err(self.c.write(self.opened(self.g("f")), 0, b"x"), -9, "write to O_RDONLY")
        self.err(self.c.read(self.opened(self.g("f"), os.O_WRONLY), 0, 1), -9, "read of O_WRONLY")
        self.good(self.c.fsync(fh), "fsync")

    def t_big_file(self):
        chunk, total = 128 << 10, 5 << 20
        data = random.Random(5).randbytes(total)
        fh = self.good(self.c.create(self.g("big"), 0o644), "create").fh
        written = [self.c.write(fh, off, data[off:off + chunk]).written for off in range(0, total, chunk)]
        self.same(set(written), {chunk}, "each chunk is written whole")
        self.check(self.content("big") == data, "5 MiB on the host")
        self.check(all(self.c.read(fh, off, chunk).data == data[off:off + chunk] for off in range(0, total, chunk)),
                   "5 MiB read back")

    def t_open_flags(self):
        path = self.put("f", b"content")
        fh = self.opened(path, os.O_WRONLY | os.O_APPEND)
        reply = self.c.write(fh, 0, b"+")
        self.check(self.content("f") == (b"content+" if reply.err == 0 else b"content"), "O_APPEND never overwrites")
        self.opened(path, os.O_RDWR | os.O_TRUNC)
        self.same(self.content("f"), b"", "O_TRUNC")
        os.mkdir(self.host("d"))
        for name, flags, want in (("no", os.O_RDONLY, -2), ("no/f", os.O_RDWR, -2), ("f/x", os.O_RDONLY, -20),
                                  ("d", os.O_RDWR, -21)):
            self.err(self.c.open(self.g(name), flags), want, f"open {name} {flags:#o}")
        self.err(self.c.read(self.c.open(self.g("d")).fh, 0, 9), (-21, -9), "read of a directory, if it opens")

    def t_handles(self):
        path, bogus = self.put("f", b"content"), (1 << 40) + 7
        for what, reply in (("read", self.c.read(bogus, 0, 1)), ("write", self.c.write(bogus, 0, b"x")),
                            ("fsync", self.c.fsync(bogus)), ("release", self.c.release(bogus)),
                            ("read", self.c.read(0, 0, 1)), ("read", self.c.read((1 << 64) - 1, 0, 1))):
            self.err(reply, -9, f"{what} with an unknown handle")
        fh = self.opened(path, os.O_RDWR)
        with self.connect() as other:
            for what, reply in (("read", other.read(fh, 0, 7)), ("write", other.write(fh, 0, b"x")),
                                ("fsync", other.fsync(fh)), ("release", other.release(fh))):
                self.err(reply, -9, f"{what} with another connection's handle")
        for what, change in (("another connection's tries", lambda: self.c.getattr(path)),
                             ("rename", lambda: self.c.rename(path, self.g("g"))),
                             ("unlink", lambda: self.c.unlink(self.g("g")))):
            self.good(change(), what)
            self.same(self.c.read(fh, 0, 7).data, b"content", f"read after {what}")
        self.good(self.c.release(fh), "release")
        self.err(self.c.release(fh), -9, "release twice")
        self.err(self.c.read(fh, 0, 1), -9, "read after release")

    def t_disconnect_closes_handles(self):
        fds, target = f"/proc/{self.server_pid}/fd", self.put("f")
        if not os.access(fds, os.R_OK | os.X_OK):
            return print(f"note {self.group}: skipped, {fds} cannot be read")
        before = len(os.listdir(fds))
        with self.connect() as other:
            self.check(all(other.open(target).err == 0 for _ in range(20)), "20 opens")
        deadline = time.monotonic() + 5
        while len(os.listdir(fds)) > before + 5 and time.monotonic() < deadline:
            self.c.getattr(target)
        self.check(len(os.listdir(fds)) <= before + 5, "handles stay open when their connection is gone")

    def t_directories(self):
        reply = self.good(self.c.mkdir(self.g("d"), 0o750), "mkdir")
        self.check(reply.stat and reply.stat["is_dir"], "mkdir answers stat")
        self.same(os.stat(self.host("d")).st_mode, stat.S_IFDIR | 0o750, "mode on the host")
        self.same(self.good(self.c.readdir(self.g("d")), "readdir of an empty directory").entries, [], "entries")
        self.put("f")
        self.put("d/inside")
        for path, want in (("d", -17), ("f", -17), ("no/d", -2), ("f/d", -20), ("n" * 256, -36)):
            self.err(self.c.mkdir(self.g(path)), want, f"mkdir {path[:9]}")
        for call, path, want in ((self.c.rmdir, "d", -39), (self.c.rmdir, "no", -2), (self.c.unlink, "no", -2),
                                 (self.c.unlink, "f/x", -20), (self.c.readdir, "f", -20), (self.c.readdir, "no", -2)):
            self.err(call(self.g(path)), want, f"{call.__name__} {path}")
        # One operation, as os.Remove: for either kind, and never a directory with something in it.
        self.err(self.c.unlink(self.g("d")), -39, "unlink of a directory that is not empty")
        self.good(self.c.rmdir(self.g("f")), "rmdir of a file")
        self.good(self.c.unlink(self.g("d/inside")), "unlink")
        self.good(self.c.rmdir(self.g("d")), "rmdir")
        self.check(not os.path.exists(self.host("d")), "gone on the host")
        os.mkdir(self.host("many"))
        for number in range(2000):
            self.put(f"many/file-{number:04}", b"x" * (number % 7))
        entries = self.good(self.c.readdir(self.g("many")), "readdir of 2,000").entries
        self.same(sorted((entry["name"], entry["size"], entry["is_dir"]) for entry in entries),
                  [(f"file-{number:04}", number % 7, False) for number in range(2000)], "2,000 entries in one reply")

    def t_rename(self):
        a, b = self.put("a", b"A"), self.put("b", b"B")
        for name in ("d", "full", "empty"):
            os.mkdir(self.host(name))
        self.put("full/x")
        self.good(self.c.rename(a, b), "rename over a file")
        self.check(self.content("b") == b"A" and not os.path.exists(self.host("a")), "the host has only the new name")
        for old, new, want in (("a", "c", -2), ("b", "no/c", -2), ("b", "d", (-21, -17)), ("d", "b", -20),
                               ("b", "b", 0), ("d", "full", (-39, -17)), ("d", "d/sub", -22), ("b/x", "c", -20)):
            self.err(self.c.rename(self.g(old), self.g(new)), want, f"rename {old} to {new}")
        self.good(self.c.rename(self.g("full"), self.g("empty")), "rename over an empty directory")
        self.same(os.listdir(self.host("empty")), ["x"], "the directory came along")

    def t_ops_14_to_18(self):
        absent = "" if self.c.readlink(self.g("no")).err != -38 else "the server has no such op"
        for what in ("mkdirall", "mkdirall again"):
            self.good(self.c.mkdirall(self.g("x/y/z"), 0o755), what, absent)
        path = self.put("f")
        self.check(absent or os.path.isdir(self.host("x/y/z")), "mkdirall on the host")
        self.err(self.c.mkdirall(self.g("f/y"), 0o755), -20, "mkdirall through a file", absent)
        works = [name for name in ("off", "sz") if self.c.truncate(self.put("f", b"x" * 100), 40, name).err == 0
                 and self.content("f") == b"x" * 40]
        if self.check(works, "truncate with the size in `off` or in `sz`", absent):
            print(f"note {self.group}: truncate takes the size from {works}")
            self.put("f", b"x" * 40)
            self.good(self.c.truncate(path, 1 << 20, works[0]), "truncate to a larger size")
            self.same(self.content("f"), b"x" * 40 + bytes((1 << 20) - 40), "file on the host")
            self.err(self.c.truncate(self.g("no"), 1, works[0]), -2, "truncate of nothing")
        works = [name for name in ("path", "new_path", "data")
                 if self.c.symlink("some/target", self.g(f"link-{name}"), name).err == 0
                 and os.path.islink(self.host(f"link-{name}"))]
        if self.check(works, "symlink with the target in `path`, `new_path` or `data`", absent):
            link = f"link-{works[0]}"
            print(f"note {self.group}: symlink takes the target from {works}")
            self.same(os.readlink(self.host(link)), "some/target", "target on the host")
            self.same(self.good(self.c.readlink(self.g(link)), "readlink").data, b"some/target", "readlink's data")
            self.err(self.c.symlink("t", self.g(link), works[0]), -17, "symlink over a name")
        self.err(self.c.readlink(path), -22, "readlink of a file", absent)
        self.err(self.c.readlink(self.g("no")), -2, "readlink of nothing", absent)
        self.good(self.c.link(path, self.g("hard")), "link", absent)
        self.check(absent or os.path.samefile(self.host("f"), self.host("hard")), "link on the host")
        self.err(self.c.link(path, self.g("hard")), (-17,), "link over a name", absent)

    def t_unknown_ops(self):
        for op in (21, 31, 63, 1000):
            self.err(self.c.request(op, path=self.g()), -38, f"op {op}")
        self.good(self.c.getattr(self.g()), "the connection lives on")

    def t_names(self):
        names = ["naïve", "日本語", "😀", "e\u0301", "\u00e9", " lead", "-rf", "new\nline", "back\\slash",
                 "*?[a]", "%41", "...", "n" * 255, "ü" * 127]
        for name in names:
            self.good(self.c.create(self.g(name)), f"create {name!r:.20}")
            self.good(self.c.lookup(self.g(name)), f"lookup {name!r:.20}")
        self.same(sorted(os.listdir(self.work)), sorted(names), "names on the host")
        self.same(sorted(e["name"] for e in self.c.readdir(self.g()).entries), sorted(names), "names in readdir")

    def t_host_names_not_utf8(self):
        self.put("good")
        for name in (b"bad\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"):
            os.close(os.open(os.path.join(os.fsencode(self.work), name), os.O_CREAT | os.O_WRONLY))
        os.mkdir(os.path.join(os.fsencode(self.work), b"dir\xfe"))
        reply = self.c.readdir(self.g())             # decoded strictly: bad text would be a ProtocolError
        self.err(reply, (0, -84), "readdir")
        if reply.err == 0:
            self.same([entry["name"] for entry in reply.entries], ["good"], "entries that are text")
        os.symlink(b"to-\xff", self.host("link"))
        self.err(self.c.readlink(self.g("link")), (0, -84, -38), "readlink of a target that is not UTF-8")
        self.good(self.c.getattr(self.g("good")), "the connection lives on")

    def t_paths_outside(self):
        # A broken server must not cost the host a file: what changes things aims at decoys only.
        name, up, secret = os.path.basename(self.work), "../" * 12, f"{self.outside}/secret"
        self.put("f")
        beside = os.path.dirname(os.path.realpath(self.options.dir))
        before, prefix, c = sorted(os.listdir(beside)), self.c.prefix, self.c
        decoys = ["", "no-such", f"{name}/no-such", self.g(up + secret), f"x/..{secret}"]
        shown = ["f", ".", "..", "etc/passwd", self.g(f"{up}etc/passwd")]
        if prefix != "/":                            # below which everything is
            decoys += [secret, prefix + "x", prefix + "x/f", f"/proc/self/root{secret}", f"{prefix}/../escaped"]
            shown += ["/", "/etc/passwd", f"{prefix}/..", f"{prefix}/../etc/passwd", "/proc/self/root/etc/passwd"]
        for path in decoys + shown:
            for call in (c.lookup, c.getattr, c.open, c.readdir):
                self.refused(call(path), f"{call.__name__} {path!r}")
        for path in decoys:
            for call in (c.create, c.mkdir, c.unlink, c.rmdir):
                self.refused(call(path), f"{call.__name__} {path!r}")
            for what, reply in (("setattr", c.setattr(path, 0o777)), ("rename to", c.rename(self.g("f"), path)),
                                ("rename of", c.rename(path, self.g("in"))), ("link of", c.link(path, self.g("in"))),
                                ("link to", c.link(self.g("f"), path)), ("truncate", c.truncate(path, 1))):
                self.refused(reply, f"{what} {path!r}")
        for what, reply in (("unlink", c.unlink(prefix)), ("rmdir", c.rmdir(prefix)), ("mkdir", c.mkdir(prefix)),
                            ("rename", c.rename(prefix, self.g("x")))):
            self.refused(reply, f"{what} of the prefix itself")
        self.same(os.listdir(self.work), ["f"], "nothing came in, nothing went out")
        self.same(sorted(os.listdir(beside)), before, "beside the root")
        self.secret_is_safe()
        for call in ("lookup", "open", "create", "unlink"):
            with contextlib.suppress(Disconnected), self.connect() as other:   # both answers are right
                self.refused(getattr(other, call)(self.g("f\0.txt")), f"{call} of a name with NUL")
        self.same(os.listdir(self.work), ["f"], "a name does not end at NUL")

    def secret_is_safe(self) -> None:
        self.same(os.listdir(self.outside), ["secret"], "the outside directory")
        self.check(pathlib.Path(self.outside, "secret").read_bytes() == SECRET, "the secret is unchanged")

    def t_newer(self):
        """What newer guests send and expect: flags of create, ids, times, truncate by handle, fsync by path."""
        c, path = self.c, self.g("f")
        fh = self.good(c.create(path, 0o644, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "create to append").fh
        self.good(c.write(fh, 0, b"1"), "append")
        with open(self.host("f"), "ab") as host:
            host.write(b"HOST")
        self.good(c.write(fh, 1, b"2"), "append at an old end")
        self.same(self.content("f"), b"1HOST2", "an append by two")
        with self.connect() as other:                # another guest, whose end is the old one
            mine = self.good(other.open(path, os.O_WRONLY | os.O_APPEND), "open to append").fh
            self.good(other.write(mine, 1, b"3"), "append by another guest")
            self.good(c.write(fh, 2, b"4"), "and by the first")
        self.same(self.content("f"), b"1HOST234", "an append by three")
        self.good(c.truncate("", 5, fh=fh), "truncate by handle")
        self.same(self.content("f"), b"1HOST", "after it")
        for flags, want in ((os.O_EXCL, -17), (0, 0)):
            self.err(c.create(path, 0o644, os.O_RDWR | os.O_CREAT | flags), want, f"create with flags {flags:#o}")
            self.same(self.content("f"), b"1HOST", "no O_TRUNC, nothing lost")
        for call in (c.fsync_path(path), c.fsync_path(self.g())):
            self.good(call, "fsync by path")
        stat_ = self.good(c.times(path, 5_000_000_006, 7_000_000_008), "times").stat or NO_STAT
        info = os.stat(self.host("f"))
        self.same((stat_["mtime"], info.st_atime_ns, info.st_mtime_ns), (7, 5_000_000_006, 7_000_000_008), "times")
        self.same((stat_["uid"], stat_["gid"]), (info.st_uid, info.st_gid), "owner")

    def t_links_shown(self):
        if self.options.links == "follow":
            return
        c = self.c
        os.makedirs(self.host("precious/sub"))
        self.put("precious/f", b"keep")
        os.makedirs(self.host("top"))
        for link, target in (("top/dir", "../precious"), ("top/file", "../precious/f"), ("top/out", self.outside),
                             ("top/none", "nothing")):
            os.symlink(target, self.host(link))
            for call in (c.lookup, c.getattr):
                stat_ = self.good(call(self.g(link)), f"{call.__name__} {link}").stat or NO_STAT
                self.check(not stat_["is_dir"] and stat_["mode"] & 1 << 27, f"{link} is shown as a link")
            for what, reply in (("open", c.open(self.g(link))), ("write", c.open(self.g(link), os.O_RDWR)),
                                ("create", c.create(self.g(link))), ("truncate", c.truncate(self.g(link), 1)),
                                ("chmod", c.setattr(self.g(link), 0o777)), ("list", c.readdir(self.g(link)))):
                self.refused(reply, f"{what} {link}")
            inside = self.g(link, "f")
            for call in (c.lookup, c.getattr, c.open, c.create, c.mkdir, c.unlink, c.rmdir, c.readdir):
                self.refused(call(inside), f"{call.__name__} {link}/f")
            for what, reply in (("rename to", c.rename(self.g("precious/f"), inside)),
                                ("rename", c.rename(inside, self.g("x"))), ("link", c.link(inside, self.g("x")))):
                self.refused(reply, f"{what} {link}/f")
            self.good(c.rmdir(self.g(link)), f"{link} itself goes with rmdir")
        self.same(sorted(os.listdir(self.host("precious"))), ["f", "sub"], "what the links pointed to")
        self.same(self.content("precious/f"), b"keep", "its content")
        self.same(os.listdir(self.host("top")), [], "the links are gone")
        self.secret_is_safe()

    def t_symlinks(self):
        if self.options.links != "follow":
            return
        c, deep, out = self.c, "../" * 30, self.outside
        self.put("f", b"inside")
        os.makedirs(self.host("d/e"))
        self.put("d/f", b"deep")
        inside = {"to-f": "f", "to-d": "d", "loop": "loop", "dangling": "nothing"}
        escapes = {"abs": "/etc/passwd", "rel": deep + "etc/passwd", "secret": f"{out}/secret", "dir": out,
                   "d/e/rel": deep + out[1:] + "/secret", "proc": "/proc/self/root", "new": f"{out}/new",
                   "up": "../..", "chain": "secret"}
        for link, target in {**inside, **escapes}.items():
            os.symlink(target, self.host(link))
        for path, size in (("to-f", 6), ("to-d/f", 4)):
            self.same((self.good(c.lookup(self.g(path)), path).stat or {}).get("size"), size, f"{path} resolves")
        self.check((c.lookup(self.g("to-d")).stat or NO_STAT)["is_dir"], "a link to a directory is one on lookup")
        self.same(c.read(self.opened(self.g("to-f")), 0, 99).data, b"inside", "read through a link inside")
        self.err(c.lookup(self.g("dangling")), -2, "dangling link")
        self.err(c.lookup(self.g("loop")), -40, "link to itself")
        for path in [*escapes, "dir/secret", "dir/new", f"proc{out}/secret"]:
            for call in (c.lookup, c.getattr):
                shown = call(self.g(path)).stat or {}
                self.check(shown.get("size") not in (len(SECRET), os.path.getsize("/etc/passwd"))
                           and not shown.get("is_dir"), f"{call.__name__} {path} shows the outside")
            for flags in (os.O_RDONLY, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
                if path not in ("abs", "rel") or flags == os.O_RDONLY:      # decoys only, again
                    self.refused(c.open(self.g(path), flags), f"open {path} {flags:#o}")
            self.refused(c.readdir(self.g(path)), f"readdir {path}")
        for path in ("dir/secret", "dir/new"):
            for what, reply in (("create", c.create(self.g(path))), ("mkdir", c.mkdir(self.g(path))),
                                ("unlink", c.unlink(self.g(path))), ("chmod", c.setattr(self.g(path), 0o777)),
                                ("rename to", c.rename(self.g("f"), self.g(path))),
                                ("rename", c.rename(self.g(path), self.g("in"))),
                                ("link", c.link(self.g(path), self.g("in"))),
                                ("truncate", c.truncate(self.g(path), 1))):
                self.refused(reply, f"{what} {path}")
        self.refused(c.create(self.g("new")), "create through a dangling link to the outside")
        self.secret_is_safe()
        self.good(c.unlink(self.g("abs")), "unlink removes the link itself")

    def t_ownership(self):
        if self.server_uid != 0:
            return print(f"note {self.group}: skipped, the server is not root")
        with self.connect(uid=12345, gid=23456) as other:
            self.good(other.create(self.g("f")), "create as 12345:23456")
            self.good(other.mkdir(self.g("d")), "mkdir as 12345:23456")
        for name in ("f", "d"):
            info = os.stat(self.host(name))
            self.same((info.st_uid, info.st_gid), (12345, 23456), f"owner of {name}", "may ignore uid and gid")

    def t_pipelining(self):
        sizes = list(range(50))
        for size in sizes:
            self.put(f"f{size}", b"x" * size)
        requests = [frame(encode_request(1, path=self.g(f"f{size}"))) for size in sizes]
        self.c.sock.sendall(b"".join(requests[:2]))
        self.same([(self.c.receive().stat or {}).get("size") for _ in range(2)], [0, 1], "two at once, in order")
        self.c.sock.sendall(b"".join(requests))
        self.same([(self.c.receive().stat or {}).get("size") for _ in sizes], sizes, "fifty at once, in order")
        for byte in requests[7]:
            self.c.sock.sendall(bytes([byte]))
        self.same((self.c.receive().stat or {}).get("size"), 7, "a request in single bytes")

    def t_special_files(self):
        os.mkfifo(self.host("fifo"))
        self.good(self.c.lookup(self.g("fifo")), "lookup of a FIFO")
        reply = self.c.open(self.g("fifo"))          # must answer at all, and hold nobody up
        self.check(reply.err < 0, "open of a FIFO is refused", "os.OpenFile opens what there is")
        self.good(self.c.getattr(self.g()), "the connection lives on")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--socket", required=True, metavar="PATH")
    parser.add_argument("--prefix", default="/workspace")
    parser.add_argument("command", choices=("selftest",), help="a conformance session against the server")
    parser.add_argument("dir", metavar="DIR", help="the host directory behind the server")
    parser.add_argument("--go", action="store_true", help="tolerate what existing servers do differently")
    parser.add_argument("--links", choices=("show", "follow"), default="show", help="what the server does with links")
    parser.add_argument("--only", default="", metavar="WORD", help="only the groups whose name contains WORD")
    options = parser.parse_args()
    test = SelfTest(options)
    test.run()
    print(f"{test.passed} passed, {test.failed} failed")
    return test.failed > 0


if __name__ == "__main__":
    sys.exit(main())
