#!/usr/bin/python3
# A server of the extended protocol that tells what cannot be: nobody hangs, nobody gets what no file system says.
# timeout: 120
# mounts: none
import errno
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
sys.path.insert(0, os.environ["VFS_TOP"] + "/tests/support")
sys.dont_write_bytecode = True
from lib import BIN, SLOW, TMP, check, counter, get, receive, refused, same, umount_vfs, wait_for
import minicbor as cbor

HELLO, PING, FENCE, LOOKUP, GETATTR, READDIRPLUS, OPEN, READ, READLINK, STATFS = 32, 35, 36, 40, 41, 42, 44, 47, 56, 57
INV, ACK = 64, 65
INV_ATTR, INV_DATA, INV_NAME = 1, 2, 4
MAGIC = b"VSOCKFS1"
FOREVER = (1 << 64) - 1
EHWPOISON = 133  # the last errno of Linux, which Python does not know


def attr(ino, mode, size=0):
    return [1, ino, mode, 1, 0, 0, 0, size, 0, 4096] + [1, 0] * 3


class Server(threading.Thread):
    """Serves one client. Names in the root are what LOOKUP is told: name to (fields of the reply)."""

    features = 1

    def __init__(self, path, names, targets):
        super().__init__(daemon=True)
        self.names, self.targets = names, targets
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.start()

    def run(self):
        self.sock, _ = self.listener.accept()
        self.listener.close()
        try:
            self.serve(self.sock)
        except (EOFError, OSError):
            pass

    def serve(self, sock):
        receive(sock, int.from_bytes(receive(sock, 4), "big"))
        root = {4: 1, 15: 0, 16: 0, 25: attr(1, 0o40755), 29: 1, 30: self.features, 31: 16, 32: 1, 33: 1}
        frame = cbor.encode({"err": 0, "data": MAGIC + cbor.encode(root)})
        sock.sendall(struct.pack(">I", len(frame)) + frame)
        while True:
            total, head = struct.unpack(">II", receive(sock, 8))
            body = receive(sock, head)
            receive(sock, total - head)
            if total == head:                               # what has a payload needs no reply here
                self.answer(sock, cbor.decode(body))

    def answer(self, sock, request):
        reply = self.fields(request)
        reply = {1: request[1], **reply}
        payload = reply.get(36, b"")
        body = cbor.encode(reply)
        sock.sendall(struct.pack(">II", len(body), len(body) - len(payload)) + body)

    def fields(self, request):
        op = request[0]
        if op == LOOKUP:
            name = request[5].decode()
            return self.names.get(name, {2: errno.ENOENT})
        if op == GETATTR:
            if request[4] == 1:
                return {25: attr(1, 0o40755)}
            return next(({25: f[25]} for f in self.names.values() if f.get(4) == request[4]), {2: errno.ESTALE})
        if op == READLINK:
            return {36: self.targets[request[4]]}
        return {2: errno.EOPNOTSUPP}


def link(node):
    return {4: node, 25: attr(node, stat.S_IFLNK | 0o777, 1)}


def mounted(number, names, targets, trial, kind=Server, options="cache=none"):
    path, at = f"{TMP}/sock{number}", f"{TMP}/mnt{number}"
    os.mkdir(at)
    server = kind(path, names, targets)
    with open(f"{TMP}/said{number}", "wb") as said:
        client = subprocess.Popen([BIN + "/vsockfs", f"unix:{path}", at, "-f", "-o", options], stderr=said)
    try:
        wait_for(lambda: os.path.ismount(at), 20, "the mount")
        trial(at, server) if kind is not Server else trial(at)
    finally:
        server.sock.shutdown(socket.SHUT_RDWR)
        umount_vfs(at)
        client.wait()
    return get(f"{TMP}/said{number}").decode().splitlines()


def child_refused(code, path, call="stat"):
    """In a process of its own: one that hangs for ever would keep the case from saying so."""
    done = subprocess.run([sys.executable, "-c", f"import os, sys\ntry: os.{call}(sys.argv[1])\n"
                           "except OSError as e: sys.exit(e.errno)", path], timeout=30 * SLOW, check=False)
    same(f"{call} {os.path.basename(path)}: errno", code, done.returncode)


targets = {10: b"", 11: b"a\0b", 12: b"x" * 4096, 13: b"x" * 100000, 14: b"x" * 4095, 15: b"sound"}


def sound_and_odd(at):
    for node, target in targets.items():
        if node < 14:
            refused(errno.EIO, os.readlink, f"{at}/link{node}")
        else:
            same("a target", target, os.fsencode(os.readlink(f"{at}/link{node}")))
    child_refused(EHWPOISON, at + "/known")
    refused(errno.EIO, os.stat, at + "/notype")
    refused(errno.ENOENT, os.stat, at + "/none")
    pinned = os.open(at + "/changes", os.O_PATH)                # or the kernel forgets the node in between
    same("a file", 5, os.fstat(pinned).st_size)
    names["changes"] = {4: 22, 25: attr(22, 0o40755)}           # is a directory now
    refused(errno.EIO, os.stat, at + "/changes")
    refused(errno.EIO, os.fstat, pinned)
    names["changes"] = {4: 22, 25: attr(22, 0o100644, 6)}       # and then again what it was
    same("the file again", 6, os.stat(at + "/changes").st_size)
    same("the same file again", 6, os.fstat(pinned).st_size)
    os.close(pinned)


names = {f"link{node}": link(node) for node in targets}
names["changes"] = {4: 22, 25: attr(22, 0o100644, 5)}
names["known"] = {2: EHWPOISON}
names["notype"] = {4: 20, 25: attr(20, 0o644)}
lines = mounted(0, names, targets, sound_and_odd)
check(not [line for line in lines if "connection to the server lost" not in line], f"it said {lines}")

# An errno that no program may see ends the connection, with one line, and the caller with an error.
for number, code in enumerate((512, 513, 999, 1000, 4095, 4096, FOREVER), 1):
    lines = mounted(number, {"name": {2: code}}, {}, lambda at: child_refused(errno.ENOTCONN, at + "/name"))
    same(f"lines after errno {code}", 1, len(lines))
    check("errno out of range" in lines[0], lines[0])

# So does a size that no file has.
lines = mounted(40, {"endless": {4: 21, 25: attr(21, 0o100644, FOREVER)}}, {},
                lambda at: child_refused(errno.ENOTCONN, at + "/endless"))
same("lines after an endless file", 1, len(lines))


# More invalidations than anybody has use for, while the kernel takes none: what waits is bounded.
STORM, BOUND, FEW = 20000, 4096, 20
FILE = attr(2, 0o100644, 100000)


class Pusher(Server):
    features = 1 | 4 | 8                                        # HELLO_PUSH, HELLO_WATCH

    def __init__(self, *args):
        self.seq, self.acked, self.held, self.write = 0, 0, None, threading.Lock()
        super().__init__(*args)

    def send(self, message):
        payload, body = message.get(36, b""), cbor.encode(message)
        with self.write:
            self.sock.sendall(struct.pack(">II", len(body), len(body) - len(payload)) + body)

    def answer(self, sock, request):
        if request[0] == ACK:
            self.acked = max(self.acked, request[34])
        elif self.held is None and (request[0] == READ or request.get(5) == b"slow"):
            self.held = request[1]                              # the kernel holds a lock until it is answered
        elif 1 in request:
            self.send({1: request[1], **self.fields(request)})

    def fields(self, request):
        if request[0] in (PING, FENCE):
            return {34: self.seq}
        if request[0] == READ:
            return {2: errno.ENOENT}
        if request[0] == OPEN:
            return {8: 1, 25: FILE}
        return {3: self.seq, **super().fields(request)}

    def push(self, item, flags=0):
        self.seq += 1
        self.send({0: INV, 13: flags, 34: self.seq, 35: 0, 36: cbor.encode(item)})


def storm(number, path, name, items, bound):
    """items(n) is the n-th; the child's request is answered when all of them have been acknowledged."""
    def trial(at, server):
        stats = f"{TMP}/stats{number}"
        child = subprocess.Popen([sys.executable, "-c", f"import os, sys\ntry: open(sys.argv[1]).read()\n"
                                  "except OSError as e: sys.exit(e.errno)", at + "/" + path])
        try:
            wait_for(lambda: server.held is not None, 20, "a request that is not answered")
            for n in range(STORM):
                server.push(items(n), int(n == STORM - 1))         # the last one with INV_ACK
            wait_for(lambda: server.acked == server.seq, 20, "the acknowledgement")
            waiting = counter("inval.waiting", stats)
            check(0 < waiting <= bound, f"{waiting} invalidations of {STORM} {name} wait")
            check(counter("inval.received", stats) >= STORM, "not all have been received")
            server.send({1: server.held, 2: errno.ENOENT})
            same("the child's errno", errno.ENOENT, child.wait(20))
            wait_for(lambda: counter("inval.waiting", stats) == 0, 20, "nothing waits")
        finally:
            child.kill()
            child.wait()
    found = {"file": {4: 2, 25: FILE}}
    mounted(number, found, {}, trial, Pusher, f"cache=lease,stats={TMP}/stats{number}")


storm(20, "file", "of one file", lambda n: [2, INV_ATTR | INV_DATA], FEW)
storm(21, "slow", "of names", lambda n: [1, INV_NAME, b"%d" % n], BOUND + FEW)
