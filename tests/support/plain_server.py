#!/usr/bin/python3
"""A server of the plain protocol that behaves as existing servers, written in Go, do.

    plain_server.py --socket PATH --root DIR [--prefix /workspace] [options]

It prints `ready` when it listens, serves any number of connections, and on SIGTERM removes its socket and
ends. It is a test peer: it holds a client to what the protocol promises, and to no more. So it

  * answers -38 to ops 14-18 and to every unknown op (`--modern` implements 14-18 and gives what it
    creates to the caller's uid and gid when it can);
  * takes absolute paths below the prefix, cleaned as text ("a/../b" is "b"); others do not exist (-2);
  * puts Go's os.FileMode into `mode`: type and set-id bits at 1<<19 .. 1<<31, permissions in 0777;
  * follows symlinks in lookup and getattr, does not in the entries of readdir;
  * fails a write to a handle opened with O_APPEND (os.File.WriteAt does; --append-errno, 22);
  * creates with O_RDWR|O_CREAT|O_TRUNC whatever `flags` say, under its own umask;
  * removes a file or an empty directory with either of unlink and rmdir, as os.Remove does;
  * renames without flags, and tells mtime in whole seconds.

Replies leave out zero-valued fields but `err`; a `stat` or entry that is there has all its keys.
`--omit-inner` leaves zeros out of those as well; `--no-omit` sends every field with its zero value, and
`--no-omit=null` writes the absent ones as null, which is what Go does without `omitempty`.

`--dialect` makes it one of those that are newer than that (doc/protocol.md, "Plain mode"): `newer` has all
operations up to 20, tells links and owners, looks at the flags of create, appends and truncates by handle;
`other` likewise, but for ops 15 and 20, which it lacks, and op 16, whose target it takes from `path`, like
os.Symlink, or from where `--symlink-target` says. Both open what they are asked to, and wait where a FIFO
does, as Go does; `--blocking` makes the others do so.

Unlike some it never follows a symlink out of the root (-13) and leaves out names that are not UTF-8, unless
`--bad-utf8-names` asks for what Go does: the raw bytes as text, which is not CBOR.

Faults count replies over all connections from 1: `--garbage-reply 3 --die-after 7`.
"""
import argparse
import errno
import itertools
import json
import os
import posixpath
import random
import signal
import socket
import stat
import struct
import sys
import threading

import minicbor as cbor
from minicbor import BadText, CBORError

OP_NAMES = ("lookup", "getattr", "setattr", "read", "write", "create", "mkdir", "unlink", "rmdir", "rename",
            "open", "release", "readdir", "fsync", "mkdirall", "truncate", "symlink", "readlink", "link", "fsync_path",
            "times")
DIALECTS = {"seed": set(range(14)), "modern": set(range(19)), "newer": set(range(21)), "other": set(range(20)) - {15}}
FIRST_EXTENDED_OP = 32
MAX_FRAME = 64 << 20
REPLY_ZEROS = {"err": 0, "stat": {"size": 0, "mode": 0, "mtime": 0, "is_dir": False, "ino": 0},
               "data": b"", "written": 0, "fh": 0, "entries": []}
STAT_OPTIONAL = ("ino", "uid", "gid")
# Request fields in declared order with their Go types.
FIELDS = {"op": "uint32", "path": "string", "new_path": "string", "fh": "uint64", "off": "int64", "sz": "uint32",
          "data": "[]byte", "flags": "uint32", "mode": "uint32", "uid": "uint32", "gid": "uint32",
          "atime_ns": "int64", "mtime_ns": "int64"}
ZERO = {"string": "", "[]byte": b""}
RANGE = {"uint32": (0, (1 << 32) - 1), "uint64": (0, (1 << 64) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
GO_TYPES = {stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25,
            stat.S_IFSOCK: 1 << 24, stat.S_IFCHR: 1 << 26 | 1 << 21}
GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class BadRequest(Exception):
    """Not a request: the connection is closed, as Go's decoder makes such servers do."""


def go_mode(mode: int) -> int:
    bits = sum(go for unix, go in GO_BITS.items() if mode & unix)
    return GO_TYPES.get(stat.S_IFMT(mode), 0) | bits | (mode & 0o777)


def parse_request(body: bytes) -> tuple[dict, cbor.Pairs]:
    """The request with all its fields, and the pairs as they were sent. Unknown keys are ignored."""
    try:
        pairs = cbor.decode(body, cbor.Rules(shortest=False, definite=False, unique_keys=False, pairs=True))
    except CBORError as error:
        raise BadRequest(f"not CBOR: {error}") from None
    if not isinstance(pairs, cbor.Pairs):
        raise BadRequest("not a map")
    request = {key: ZERO.get(kind, 0) for key, kind in FIELDS.items()}
    for key, value in pairs:
        kind = FIELDS.get(key) if isinstance(key, str) else None
        if kind is None or value is None:
            continue
        if kind in RANGE:
            low, high = RANGE[kind]
            fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        else:
            fits = isinstance(value, type(ZERO[kind]))
        if not fits:
            raise BadRequest(f"{key} is not a {kind}")
        request[key] = value
    if "op" not in dict(pairs):
        raise BadRequest("no op")
    return request, pairs


def is_canonical(body: bytes, pairs: cbor.Pairs) -> bool:
    """Byte for byte what the seed's encoder gives: declared order, zeros left out, shortest heads."""
    sent, order = [key for key, _ in pairs], list(FIELDS)
    try:
        return (sent == sorted(sent, key=order.index) and len(set(sent)) == len(sent)
                and all(value or key in ("op", "atime_ns", "mtime_ns") for key, value in pairs) and cbor.encode(pairs) == body)
    except (ValueError, CBORError, UnicodeEncodeError):
        return False


class Tree:
    """From guest paths to host paths that lie inside the root."""

    def __init__(self, root: str, prefix: str):
        self.root = os.path.realpath(os.fsencode(root))
        self.prefix = posixpath.normpath(prefix)

    def host(self, path: str, follow: bool = False) -> bytes:
        if "\0" in path:
            raise OSError(errno.EINVAL, "NUL in a path")
        clean = posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else ""
        below = self.prefix.rstrip("/") + "/"
        if clean != self.prefix and not clean.startswith(below):
            raise OSError(errno.ENOENT, "outside the prefix")
        full = posixpath.normpath(posixpath.join(self.root, clean[len(below):].encode()))
        if full == self.root:
            return full
        real = os.path.realpath(full) if follow else os.path.realpath(os.path.dirname(full))
        if real != self.root and not real.startswith(self.root.rstrip(b"/") + b"/"):
            raise OSError(errno.EACCES, "a symlink leads out of the root")
        return real if follow else posixpath.join(real, os.path.basename(full))

    def name(self, path: str) -> bytes:
        """Of something to be made, renamed or removed: anything but the root."""
        full = self.host(path)
        if full == self.root:
            raise OSError(errno.EBUSY, "the root")
        return full


class Handles:
    """Open files of one connection, or of all with --global-handles."""

    numbers = itertools.count(1)

    def __init__(self):
        self.lock = threading.Lock()
        self.open = {}

    def add(self, fd: int, flags: int) -> int:
        with self.lock:
            number = next(self.numbers)
            self.open[number] = (fd, flags)
            return number

    def get(self, number: int) -> tuple[int, int]:
        with self.lock:
            if number not in self.open:
                raise OSError(errno.EBADF, "no such handle")
            return self.open[number]

    def close(self, number: int) -> None:
        fd, _ = self.get(number)
        with self.lock:
            del self.open[number]
        os.close(fd)

    def close_all(self) -> None:
        for number in list(self.open):
            self.close(number)


class Service:
    """The operations. Each gets a request and the connection's handles and gives the reply's fields."""

    def __init__(self, options, tree: Tree):
        self.options, self.tree = options, tree
        self.dialect = options.dialect or ("modern" if options.modern else "seed")
        self.newer = self.dialect in ("newer", "other")
        self.wait = 0 if self.newer or options.blocking else os.O_NONBLOCK

    def answer(self, request: dict, handles: Handles) -> dict:
        op = request["op"]
        if op not in DIALECTS[self.dialect]:
            return {"err": -errno.ENOSYS}
        try:
            return {"err": 0, **(getattr(self, OP_NAMES[op])(request, handles) or {})}
        except OSError as error:
            return {"err": -(error.errno or errno.EIO)}
        except OverflowError:
            return {"err": -errno.EINVAL}

    def stat_of(self, info: os.stat_result) -> dict:
        return {"size": info.st_size, "mode": go_mode(info.st_mode), "mtime": int(info.st_mtime_ns // 10**9),
                "is_dir": stat.S_ISDIR(info.st_mode), "ino": info.st_ino,
                **({"uid": info.st_uid, "gid": info.st_gid} if self.newer else {})}

    def give_away(self, path: bytes, request: dict) -> None:
        if self.dialect != "seed" and os.geteuid() == 0:
            os.chown(path, request["uid"], request["gid"], follow_symlinks=False)

    def lookup(self, request, handles):
        if self.newer:
            return {"stat": self.stat_of(os.lstat(self.tree.host(request["path"])))}
        return {"stat": self.stat_of(os.stat(self.tree.host(request["path"], follow=True)))}

    def getattr(self, request, handles):
        if not request["path"] and request["fh"]:
            return {"stat": self.stat_of(os.fstat(handles.get(request["fh"])[0]))}
        return self.lookup(request, handles)

    def setattr(self, request, handles):
        os.chmod(self.tree.host(request["path"], follow=True), request["mode"] & 0o777)

    def read(self, request, handles):
        fd, _ = handles.get(request["fh"])
        return {"data": os.pread(fd, min(request["sz"], MAX_FRAME - 1024), request["off"])}

    def write(self, request, handles):
        fd, flags = handles.get(request["fh"])
        if flags & os.O_APPEND and self.newer:
            return {"written": os.write(fd, request["data"])}
        if flags & os.O_APPEND:
            raise OSError(self.options.append_errno, "WriteAt on a file opened with O_APPEND")
        written, data = 0, memoryview(request["data"])
        while written < len(data):
            written += os.pwrite(fd, data[written:], request["off"] + written)
        return {"written": written}

    def create(self, request, handles):
        path = self.tree.host(request["path"], follow=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        if self.newer and request["flags"]:
            flags = request["flags"] & (os.O_ACCMODE | os.O_APPEND | os.O_EXCL | os.O_TRUNC) | os.O_CREAT
        is_new = not os.path.lexists(path)
        # O_NONBLOCK only so that a FIFO cannot hold a thread of this tool.
        fd = os.open(path, flags | os.O_CLOEXEC | self.wait, request["mode"] & 0o777)
        if is_new:
            self.give_away(path, request)
        return {"fh": handles.add(fd, flags), "stat": self.stat_of(os.fstat(fd))}

    def mkdir(self, request, handles):
        path = self.tree.name(request["path"])
        os.mkdir(path, request["mode"] & 0o777)
        self.give_away(path, request)
        return {"stat": self.stat_of(os.lstat(path))}

    def unlink(self, request, handles):
        path = self.tree.name(request["path"])
        try:
            os.unlink(path)
        except OSError as first:
            try:
                os.rmdir(path)
            except OSError as second:
                raise (first if second.errno == errno.ENOTDIR else second) from None

    rmdir = unlink

    def rename(self, request, handles):
        os.rename(self.tree.name(request["path"]), self.tree.name(request["new_path"]))

    def open(self, request, handles):
        flags = request["flags"]
        fd = os.open(self.tree.host(request["path"], follow=True), flags | os.O_CLOEXEC | self.wait, 0)
        return {"fh": handles.add(fd, flags)}

    def release(self, request, handles):
        handles.close(request["fh"])

    def readdir(self, request, handles):
        path, entries = self.tree.host(request["path"], follow=True), []
        for name in sorted(os.listdir(path)):
            try:
                info = self.stat_of(os.lstat(posixpath.join(path, name)))
            except FileNotFoundError:
                continue
            try:
                shown = name.decode()
            except UnicodeDecodeError:
                if self.options.bad_utf8_names is None:
                    continue
                shown = BadText(name)
            entries.append({"name": shown, **{key: info[key] for key in ("is_dir", "mode", "size", "ino")}})
        return {"entries": entries}

    def fsync(self, request, handles):
        os.fsync(handles.get(request["fh"])[0])

    def mkdirall(self, request, handles):
        missing, path = [], request["path"]
        while not os.path.lexists(host := self.tree.host(path)):
            missing.append(path)
            path = posixpath.dirname(posixpath.normpath(path))
        if not os.path.isdir(host):
            raise OSError(errno.ENOTDIR, "a file is in the way")
        for path in reversed(missing):
            self.mkdir({**request, "path": path}, handles)

    def truncate(self, request, handles):
        if self.newer and request["fh"]:
            return os.ftruncate(handles.get(request["fh"])[0], request[self.options.truncate_size])
        os.truncate(self.tree.host(request["path"], follow=True), request[self.options.truncate_size])

    def symlink(self, request, handles):
        target, link = {"path": (request["path"], request["new_path"]),
                        "new_path": (request["new_path"], request["path"]),
                        "data": (request["data"], request["path"])}[self.options.symlink_target]
        if not target:
            raise OSError(errno.ENOENT, "a link to nothing")
        path = self.tree.name(link)
        os.symlink(os.fsencode(target), path)
        self.give_away(path, request)

    def readlink(self, request, handles):
        return {"data": os.readlink(self.tree.host(request["path"]))}

    def link(self, request, handles):
        os.link(self.tree.name(request["path"]), self.tree.name(request["new_path"]), follow_symlinks=False)

    def fsync_path(self, request, handles):
        fd = os.open(self.tree.host(request["path"]), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def times(self, request, handles):
        """As os.Chtimes: of what a link points to."""
        os.utime(self.tree.host(request["path"], follow=True), ns=(request["atime_ns"], request["mtime_ns"]))


class Faults:
    """Turns the N-th reply into what goes onto the wire instead."""

    def __init__(self, options):
        self.options, self.numbers, self.lock = options, itertools.count(1), threading.Lock()

    def next(self) -> int:
        with self.lock:
            return next(self.numbers)

    def wire(self, number: int, reply: dict) -> tuple[bytes, bool]:
        """(bytes, whether the connection is to be closed behind them)"""
        options = self.options
        if options.bad_utf8_names and number in options.bad_utf8_names:
            entry = {"name": BadText(b"bad\xff\xfename"), "is_dir": False, "mode": 0o644, "size": 0, "ino": 1}
            reply = {**reply, "entries": [entry]}
        body = cbor.encode(reply)
        if number in options.garbage_reply:
            body = b"\xff" + random.Random(number).randbytes(255)   # a lone break: never a map
        if number in options.deep_reply:
            body = cbor.encode({"err": cbor.Raw(cbor.nested(100000))})
        if number in options.indefinite_reply:
            body = cbor.encode(cbor.Indef(reply))
        frame = struct.pack(">I", len(body)) + body
        if number in options.oversize_reply:
            frame = b"\xff\xff\xff\xff" + body
        if number in options.truncate_reply:
            return frame[:4 + max(1, len(body) // 2)], True
        return frame, False


def shape_reply(reply: dict, options) -> dict:
    """The reply with its zeros left out or filled in, keys in declared order."""
    def inner(value: dict) -> dict:
        return {k: v for k, v in value.items()
                if v or k not in STAT_OPTIONAL and (k == "name" or not options.omit_inner)}

    shaped = {}
    for key, zero in REPLY_ZEROS.items():
        value = reply.get(key)
        if value or key == "err":
            shaped[key] = inner(value) if key == "stat" else [inner(e) for e in value] if key == "entries" else value
        elif options.no_omit:
            is_nil = options.no_omit == "null" and not isinstance(zero, int)
            shaped[key] = None if is_nil else zero
    return shaped


class Server:
    def __init__(self, options):
        self.options = options
        self.service = Service(options, Tree(options.root, options.prefix))
        self.faults = Faults(options)
        self.stopping = threading.Event()
        self.shared = Handles() if options.global_handles else None
        self.log = open(options.log, "a", encoding="utf-8") if options.log else None
        self.log_lock, self.requests = threading.Lock(), itertools.count(1)

    def note(self, connection: int, body: bytes, request=None, pairs=None, problem=None) -> None:
        if self.log is None:
            return
        line = {"conn": connection, "bytes": len(body)}
        if problem:
            line |= {"malformed": problem, "hex": body[:64].hex()}
        else:
            op = request["op"]
            fields = {str(key): value for key, value in pairs}
            if isinstance(data := fields.get("data"), bytes):
                fields["data"] = {"len": len(data), "hex": data[:64].hex()}
            line |= {"op": op, "name": OP_NAMES[op] if op < len(OP_NAMES) else None,
                     "keys": [str(key) for key, _ in pairs], "canonical": is_canonical(body, pairs),
                     "fields": fields}
        with self.log_lock:
            self.log.write(json.dumps({"n": next(self.requests), **line}, default=repr) + "\n")
            self.log.flush()

    def serve(self, sock: socket.socket, connection: int) -> None:
        handles = self.shared or Handles()
        try:
            with sock, sock.makefile("rb") as stream:
                while self.one_request(sock, stream, connection, handles):
                    pass
        except OSError:
            pass
        finally:
            if handles is not self.shared:
                handles.close_all()

    def one_request(self, sock, stream, connection: int, handles: Handles) -> bool:
        """Reads and answers one request; False when the connection is over."""
        prefix = stream.read(4)
        if len(prefix) < 4:
            return False
        length, = struct.unpack(">I", prefix)
        if length > MAX_FRAME:
            self.note(connection, prefix, problem=f"frame of {length} bytes")
            return False
        body = stream.read(length)
        if len(body) < length:
            return False
        try:
            request, pairs = parse_request(body)
        except BadRequest as error:
            self.note(connection, body, problem=str(error))
            return False
        self.note(connection, body, request, pairs)
        if request["op"] >= FIRST_EXTENDED_OP:
            if self.options.close_on_hello:
                return False
            if self.options.silent_hello:
                return True
        reply = shape_reply(self.service.answer(request, handles), self.options)
        if self.options.delay and self.stopping.wait(self.options.delay / 1000):
            return False
        number = self.faults.next()
        frame, close = self.faults.wire(number, reply)
        sock.sendall(frame)
        if number == self.options.die_after:
            os._exit(1)                              # a crash: the socket's file stays behind
        return not close


def listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise
        os.unlink(path)                              # left by a server that died
        listener.bind(path)
    listener.listen(128)
    return listener


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--socket", required=True, metavar="PATH")
    add("--root", required=True, metavar="DIR")
    add("--prefix", default="/workspace", help="the path clients know the root by")
    add("--modern", action="store_true", help="implement ops 14-18; created files belong to the caller")
    add("--truncate-size", choices=("off", "sz"), default="off", help="field with op 15's size")
    add("--dialect", choices=tuple(DIALECTS), help="seed and modern: without and with --modern")
    add("--symlink-target", choices=("path", "new_path", "data"), help="field with op 16's target")
    add("--blocking", action="store_true", help="wait where opening a FIFO does")
    add("--append-errno", type=int, default=errno.EINVAL, metavar="E")
    add("--global-handles", action="store_true", help="a handle works on every connection")
    add("--no-omit", nargs="?", const="zero", choices=("zero", "null"), help="send every reply field")
    add("--omit-inner", action="store_true", help="leave zeros out of stat and entries too")
    add("--log", metavar="FILE", help="append one JSON line per request")
    add("--delay", type=int, default=0, metavar="MS", help="wait before each reply")
    add("--silent-hello", action="store_true", help="never answer op >= 32")
    add("--close-on-hello", action="store_true", help="close the connection at op >= 32")
    add("--die-after", type=int, metavar="N", help="exit at once after the N-th reply")
    for fault, what in (("garbage", "the right length, random bytes"), ("oversize", "frame length 2^32-1"),
                        ("truncate", "half the frame, then close"), ("deep", "100,000 nested arrays"),
                        ("indefinite", "the reply as a map of indefinite length")):
        add(f"--{fault}-reply", type=int, action="append", default=[], metavar="N", help=what)
    add("--bad-utf8-names", type=int, action="append", nargs="?", const=0, metavar="N",
        help="names as the host has them; with N, the N-th reply lists such a name")
    options = parser.parse_args()
    options.symlink_target = options.symlink_target or ("path" if options.dialect == "other" else "data")
    return options


def main() -> int:
    options = parse_options()
    if not os.path.isdir(options.root) or not options.prefix.startswith("/"):
        print(f"plain_server: --root {options.root} must be a directory, --prefix absolute", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    server, listener = Server(options), listen(options.socket)
    try:
        print("ready", flush=True)
        for connection in itertools.count(1):
            sock, _ = listener.accept()
            threading.Thread(target=server.serve, args=(sock, connection), daemon=True).start()
    finally:
        server.stopping.set()
        listener.close()
        os.unlink(options.socket)


if __name__ == "__main__":
    sys.exit(main())
