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
from lib import BIN, SLOW, TMP, check, get, refused, same, umount_vfs, wait_for
import minicbor as cbor

HELLO, LOOKUP, GETATTR, READDIRPLUS, READLINK, STATFS = 32, 40, 41, 42, 56, 57
MAGIC = b"VSOCKFS1"
FOREVER = (1 << 64) - 1
EHWPOISON = 133  # the last errno of Linux, which Python does not know


def attr(ino, mode, size=0):
    return [1, ino, mode, 1, 0, 0, 0, size, 0, 4096] + [1, 0] * 3


def receive(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class Server(threading.Thread):
    """Serves one client. Names in the root are what LOOKUP is told: name to (fields of the reply)."""

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
        root = {4: 1, 15: 0, 16: 0, 25: attr(1, 0o40755), 29: 1, 30: 1, 31: 16, 32: 1, 33: 1}
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
            return {25: attr(1, 0o40755)} if request[4] == 1 else {2: errno.ESTALE}
        if op == READLINK:
            return {36: self.targets[request[4]]}
        return {2: errno.EOPNOTSUPP}


def link(node):
    return {4: node, 25: attr(node, stat.S_IFLNK | 0o777, 1)}


def mounted(number, names, targets, trial):
    path, at = f"{TMP}/sock{number}", f"{TMP}/mnt{number}"
    os.mkdir(at)
    server = Server(path, names, targets)
    with open(f"{TMP}/said{number}", "wb") as said:
        client = subprocess.Popen([BIN + "/vsockfs", f"unix:{path}", at, "-f", "-o", "cache=none"], stderr=said)
    try:
        wait_for(lambda: os.path.ismount(at), 20, "the mount")
        trial(at)
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
    refused(errno.EIO, os.stat, at + "/endless")
    refused(errno.ENOENT, os.stat, at + "/none")


names = {f"link{node}": link(node) for node in targets}
names["known"] = {2: EHWPOISON}
names["notype"] = {4: 20, 25: attr(20, 0o644)}
names["endless"] = {4: 21, 25: attr(21, 0o100644, FOREVER)}
lines = mounted(0, names, targets, sound_and_odd)
check(not [line for line in lines if "connection to the server lost" not in line], f"it said {lines}")

# An errno that no program may see ends the connection, with one line, and the caller with an error.
for number, code in enumerate((512, 513, 999, 1000, 4095, 4096, FOREVER), 1):
    lines = mounted(number, {"name": {2: code}}, {}, lambda at: child_refused(errno.ENOTCONN, at + "/name"))
    same(f"lines after errno {code}", 1, len(lines))
    check("errno out of range" in lines[0], lines[0])
