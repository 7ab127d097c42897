#!/usr/bin/python3
# Of two copies of one client the first one has the session, and the mount that is the second one goes on in a session of its own:
# its names, its open files and what it had in flight, but for what may have been executed; not its locks. A copy that is older than
# the session gets none of it, and the mount keeps its locks. The other copy is a few lines of the protocol, with the secret that
# the server told the mount.
# timeout: 120
# mounts: none
# as: root user
import contextlib
import errno
import fcntl
import os
import queue
import socket
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
sys.path.insert(0, os.environ["VFS_TOP"] + "/tests/support")
# pylint: disable=wrong-import-position
import minicbor as cbor
from hostile_client import Talk
from lib import HOST, check, get, put, refused, same, wait_for
from links import Line
from plain_client import decode_reply, encode_request, frame

PUSH, RESUME, RESUMED, COPIES, COPY = 4, 256, 512, 4096, 8192
OP_RESUME, OP_GETATTR, OP_ACK, OP_RESET, OP_GOODBYE = 34, 41, 65, 66, 67
TYPE_NODES, TYPE_FILES, TYPE_USED = 0, 1, 3
FIRST, LAST = 1, 2
EPOCH, SESSION, TOKEN = 32, 33, 39


def note(text):
    print("# " + text, flush=True)


def told(line):
    """What the server has told the one mount behind the proxy of its session."""
    def whole():
        heard = line.proxy.greetings()
        return len(heard) == 1 and len(heard[0]) > 4 and len(heard[0]) >= 4 + int.from_bytes(heard[0][:4], "big")
    wait_for(whole, 20, "the mount has been greeted")
    greeting, = line.proxy.greetings()
    size = int.from_bytes(greeting[:4], "big")
    return cbor.decode(decode_reply(greeting[4:4 + size]).data[8:])


class Twin:
    """A copy of the client."""

    def __init__(self, line, known, features=0):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(line.served)
        hello = {29: 1, 30: PUSH | RESUME | COPIES | features, EPOCH: known[EPOCH], SESSION: known[SESSION], TOKEN: known[TOKEN]}
        self.sock.sendall(frame(encode_request(32, data=b"VSOCKFS1" + cbor.encode(hello))))
        self.talk = Talk.__new__(Talk)
        self.talk.sock, self.talk.id = self.sock, 0
        reply = decode_reply(self.talk.receive(int.from_bytes(self.talk.receive(4), "big")))
        self.hello, self.replies = cbor.decode(reply.data[8:]), queue.Queue()

    def tells(self, *items, kind=TYPE_NODES, flags=FIRST | LAST):
        """The last that it tells by RESUME; its err."""
        return self.talk.call({0: OP_RESUME, 13: flags, 23: kind, 36: b"".join(cbor.encode(i) for i in items)}).get(2, 0)

    def holds_all(self):
        """What the client held: of numbers that it did not the server takes no notice."""
        root = self.hello[4]  # the first of the nodes; and a server with a state has files of such numbers, too
        files = b"".join(cbor.encode(fh) for base in (1, root) for fh in range(base, base + 100))
        body = {0: OP_RESUME, 1: 1, 13: FIRST, 23: TYPE_FILES, 36: files}
        encoded = cbor.encode(body)
        self.sock.sendall(len(encoded).to_bytes(4, "big") + (len(encoded) - len(files)).to_bytes(4, "big") + encoded)
        same("err of its RESUME", 0, self.tells(*([node, 1] for node in range(root, root + 100)), flags=LAST))

    def send(self, fields):
        body = cbor.encode(fields)
        self.sock.sendall(len(body).to_bytes(4, "big") * 2 + body)

    def listens(self):
        """Acknowledges what is pushed, from now on."""
        def run():
            with contextlib.suppress(EOFError, OSError):
                while True:
                    total = int.from_bytes(self.talk.receive(8)[:4], "big")
                    message = cbor.decode(self.talk.receive(total))
                    if 0 not in message:
                        self.replies.put(message)
                    elif message[0] == OP_RESET or message.get(13, 0) & 1:
                        self.send({0: OP_ACK, 34: message[34]})
            self.replies.put({2: errno.ENOTCONN})
        threading.Thread(target=run, daemon=True).start()

    def is_served(self):
        """The root's attributes."""
        self.send({0: OP_GETATTR, 1: 4711, 4: self.hello[4]})
        return 2 not in self.replies.get(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def opened(files, path):
    """A descriptor that is closed at the end, without which nothing can be unmounted."""
    fd = os.open(path, os.O_RDWR)
    files.callback(os.close, fd)
    return fd


def second(line, m, files):
    note("another copy has taken the session")
    for name in "open", "locked":
        put(f"{HOST}/{name}", name.encode())
    for name in "1", "2", "3":  # each is locked by whoever makes something in it
        os.mkdir(f"{HOST}/{name}")
    m.sync()
    fd, locked = opened(files, f"{m.at}/open"), opened(files, f"{m.at}/locked")
    fcntl.flock(locked, fcntl.LOCK_EX)
    for name in "1/unsure", "2/fresh", "3/queued":
        check(not os.path.lexists(f"{m.at}/{name}"), "known not to be there: what follows is one request")
    known = told(line)
    # executed, without a reply
    line.proxy.swallow("to-client")
    unsure = line.start(f"os.mkdir('{m.at}/1/unsure')")
    wait_for(lambda: os.path.isdir(f"{HOST}/1/unsure"), 20, "the server has executed the first")
    # sent, and never received
    line.proxy.swallow("to-server")
    before = m.count("rpc.requests")
    fresh = line.start(f"os.symlink('to', '{m.at}/2/fresh')")
    wait_for(lambda: m.count("rpc.requests") > before, 20, "the client has sent the second")
    line.proxy.refuse()
    line.proxy.cut()
    m.is_down()
    line.proxy.go()
    queued = line.start(f"os.mkdir('{m.at}/3/queued')")
    with Twin(line, known) as twin:
        check(twin.hello[30] & RESUMED, "the twin has the session")
        twin.holds_all()
        twin.listens()
        check(twin.is_served(), "the twin is served")
        line.proxy.allow()
        wait_for(lambda: m.count("conn.copied") == 1, 20, "the mount has a session of its own")
        same("what was executed", str(errno.EIO), line.ended(unsure))
        same("what was lost on its way", "done", line.ended(fresh))
        same("what had waited", "done", line.ended(queued))
        same("of which nobody knew", 1, m.count("conn.unsure"))
        same("files that lost their locks", 1, m.count("conn.locks_lost"))
        same("copies that the server knows of", 1, line.count("server.copied"))
        m.sync()
        for name in "1", "2", "3":
            same("listed", os.listdir(f"{HOST}/{name}"), os.listdir(f"{m.at}/{name}"))
            same("made once", 1, len(os.listdir(f"{m.at}/{name}")))
        same("the link", "to", os.readlink(f"{HOST}/2/fresh"))
        same("an open file", b"open", os.pread(fd, 10, 0))
        same("written", 4, os.pwrite(fd, b"OPEN", 0))
        same("on the host", b"OPEN", get(f"{HOST}/open"))
        refused(errno.EIO, os.pread, locked, 10, 0)
        check(twin.is_served(), "the twin is served still")
        twin.send({0: OP_GOODBYE})  # its lock is free
    again = opened(files, f"{m.at}/locked")
    fcntl.flock(again, fcntl.LOCK_EX)
    line.cut(m)
    same("of its own session", b"locked", os.pread(again, 10, 0))
    same("an open file afterwards", b"OPEN", os.pread(fd, 10, 0))
    same("copied once", 1, m.count("conn.copied"))


def older(line, m, files):
    note("a copy that is older than the session")
    put(f"{HOST}/locked", b"locked")
    m.sync()
    locked = opened(files, f"{m.at}/locked")
    fcntl.flock(locked, fcntl.LOCK_EX)
    for n in range(3):
        os.mkdir(f"{m.at}/d{n}")
    known, resumed = told(line), m.count("conn.resumed")
    while True:
        try:
            with Twin(line, known) as twin:
                check(twin.hello[30] & RESUMED, "so it seems to it")
                known = twin.hello
                same("err of its RESUME", errno.ESTALE, twin.tells(*([slot, 0] for slot in range(16)), kind=TYPE_USED))
                break
        except (OSError, EOFError):  # the mount was quicker than its RESUME, and has the session again
            known = told(line)
    m.goes_on(resumed + 1)
    m.sync()
    resumed = m.count("conn.resumed")
    same("through the lock", b"locked", os.pread(locked, 10, 0))
    with Twin(line, known, COPY) as twin:
        check(twin.hello[30] & COPY, "it has a session of its own")
        same("err of its RESUME", 0, twin.tells([twin.hello[4], 1]))
        twin.listens()
        check(twin.is_served(), "it is served")
    os.mkdir(f"{m.at}/afterwards")
    same("connections lost by that", resumed, m.count("conn.resumed"))
    same("sessions lost by that", 0, m.count("conn.copied"))
    same("locks lost by that", 0, m.count("conn.locks_lost"))


with Line("second", ["--ack-timeout=1"]) as l, contextlib.ExitStack() as f:
    second(l, l.mount(), f)
with Line("older", ["--ack-timeout=1"]) as l, contextlib.ExitStack() as f:
    older(l, l.mount(), f)
