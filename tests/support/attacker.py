#!/usr/bin/python3
"""A guest that wants everything for itself: one attack on a server's resources, for as long as it is let.

    attacker.py --socket PATH [--prefix /workspace] ATTACK

Says "ready" on its output once the attack is in force, and ends with its standard input. What the server refuses, it tries
again. It never harms the export: it works on what `prepare` has made there.
"""
import argparse
import contextlib
import os
import pathlib
import selectors
import socket
import struct
import sys
import threading
import time

import minicbor as cbor
from plain_client import decode_reply, encode_request, frame

PUSH, RESUME = 1 << 2, 1 << 8
WRITE, WAIT = 1, 1
BIG, DEEP, LINKS = 20000, 750, 40


def prepare(root):
    """What the attacks need in an export: a large directory, a deep one, and links that go up and down it."""
    root = pathlib.Path(root, "attacked")
    root.mkdir(exist_ok=True)
    big = root / "big"
    big.mkdir(exist_ok=True)
    for i in range(BIG):
        (big / f"entry-{i:05}").touch()
    (root / "file").write_bytes(bytes(1 << 20))
    (root / "locked").touch()
    # 750 deep by names of one byte; each link goes to the bottom and up again by one level at a time, and then on to the next.
    fd = os.open(root, os.O_RDONLY)
    with contextlib.suppress(FileExistsError):
        for _ in range(DEEP):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
    os.close(fd)
    for i in range(LINKS):
        with contextlib.suppress(FileExistsError):
            os.symlink("d/" * DEEP + "../" * DEEP, root / f"l{i}")


def extended(sequence, **fields):
    """A frame of the extended protocol; keys as k0, k1..."""
    body = {int(key[1:]): value for key, value in fields.items()}
    if sequence is not None:
        body[1] = sequence
    payload = body.get(36, b"")
    data = cbor.encode(dict(sorted(body.items())))
    return struct.pack(">II", len(data), len(data) - len(payload)) + data


class Guest:
    """One connection with a session."""

    def __init__(self, path, features=PUSH):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.last = 0
        hello = cbor.encode({29: 1, 30: features})
        self.sock.sendall(frame(encode_request(32, data=b"VSOCKFS1" + hello)))
        reply = decode_reply(self.take(int.from_bytes(self.take(4), "big")))
        self.hello = cbor.decode(reply.data[8:])
        self.root = self.hello[4]

    def take(self, count):
        out = b""
        while len(out) < count:
            part = self.sock.recv(count - len(out))
            if not part:
                raise EOFError
            out += part
        return out

    def message(self):
        """The next one, without its payload."""
        total, _ = struct.unpack(">II", self.take(8))
        return cbor.decode(self.take(total))

    def call(self, **fields):
        """The reply; err is key 2."""
        self.last += 1
        self.sock.sendall(extended(self.last, **fields))
        while (reply := self.message()).get(1) != self.last or 0 in reply:
            pass
        return reply

    def lookup(self, *names):
        node = self.root
        for name in names:
            node = self.call(k0=40, k4=node, k5=name.encode())[4]
        return node

    def open(self, *names, flags=2):
        return self.call(k0=44, k4=self.lookup(*names), k13=flags)[8]


class Flood:
    """Keeps so many copies of a request in flight on each of its connections; whatever comes back is thrown away."""

    def __init__(self, guests, batch, deaf=False):
        self.pick = selectors.DefaultSelector()
        for guest in guests:
            guest.sock.setblocking(False)
            self.pick.register(guest.sock, selectors.EVENT_WRITE if deaf else selectors.EVENT_READ | selectors.EVENT_WRITE,
                               [b""])
        self.batch = batch

    def run(self, rounds=None):
        while self.pick.get_map() and (rounds is None or rounds > 0):
            rounds = rounds and rounds - 1
            for key, events in self.pick.select(0.2):
                try:
                    if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 20):
                        raise EOFError
                    if events & selectors.EVENT_WRITE:
                        left = key.data[0] or self.batch
                        key.data[0] = left[key.fileobj.send(left):]
                except BlockingIOError:
                    pass
                except (EOFError, OSError):
                    self.pick.unregister(key.fileobj)


def ready():
    print("ready", flush=True)


def flood(guests, batch, deaf=False, rounds=None):
    ready()
    Flood(guests, batch, deaf).run(rounds)


def many(path, count, features=PUSH):
    return [Guest(path, features) for _ in range(count)]


def listings(path, _):
    """40 READDIRPLUS of a large directory in flight."""
    guest = Guest(path)
    node = guest.lookup("attacked", "big")
    flood([guest], b"".join(extended(n, k0=42, k4=node, k10=0, k12=1 << 20) for n in range(1000, 1040)))


def deaf_listings(path, _):
    """The same, and the replies are not read: what the host changes cannot be told either."""
    guest = Guest(path)
    node = guest.lookup("attacked", "big")
    flood([guest], b"".join(extended(n, k0=42, k4=node, k10=0, k12=1 << 20) for n in range(1000, 1040)), deaf=True)


def fences(path, _):
    flood(many(path, 16), b"".join(extended(n, k0=36) for n in range(1000, 1064)))


def pings(path, _):
    flood(many(path, 16), b"".join(extended(n, k0=35) for n in range(1000, 1064)))


def oneway(path, _):
    """ACK, CANCEL and FORGET, to which nothing is answered."""
    pairs = b"".join(cbor.encode([1 << 40, 1]) for _ in range(1000))
    batch = extended(None, k0=65, k34=0) * 500 + extended(7, k0=37) * 500 + extended(None, k0=38, k36=pairs) * 4
    flood(many(path, 16), batch)


def locks(path, _):
    """Very many ranges of one file, and as many waiting locks as there may be."""
    def fill(guest, fh, owner):
        with contextlib.suppress(EOFError, OSError):
            for at in range(1 << 20):
                guest.call(k0=61, k8=fh, k22=owner, k23=WRITE, k10=at * 2, k11=at * 2)

    guests = many(path, 4)
    for owner, guest in enumerate(guests):
        fh = guest.open("attacked", "locked")
        guest.call(k0=61, k8=fh, k22=owner, k23=WRITE, k10=1 << 40 | owner, k11=1 << 40 | owner)
        guest.sock.sendall(b"".join(extended(1 << 30 | n, k0=61, k8=fh, k22=owner, k23=WRITE, k13=WAIT, k10=1 << 40, k11=(1 << 40) + 1)
                                    for n in range(200)))
    for owner, guest in enumerate(guests):
        threading.Thread(target=fill, args=(guest, fh, owner), daemon=True).start()
    ready()
    threading.Event().wait()


def opens(path, _):
    """As many open files as it is let have."""
    guest = Guest(path)
    node, said = guest.lookup("attacked", "file"), False
    while True:
        full = guest.call(k0=44, k4=node, k13=0).get(2, 0) != 0
        if full and not said:
            said = True
            ready()
        if full:
            time.sleep(0.01)


def walks(path, prefix):
    """Plain requests whose path goes up and down a deep tree over and over again."""
    request = frame(encode_request(1, path=prefix + "/attacked/" + "/".join(f"l{i}" for i in range(LINKS))))
    socks = []
    for _ in range(4):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.sendall(request)
        socks.append(sock)
    ready()

    def again(sock):
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                sock.sendall(request)

    for sock in socks:
        threading.Thread(target=again, args=(sock,), daemon=True).start()
    threading.Event().wait()


def crowd(path, first):
    """1,100 connections that send this and then nothing, and come again when they are closed."""
    pick, missing, said = selectors.DefaultSelector(), 1100, False
    end = time.monotonic() + 5
    while True:
        while missing:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(path)
            except BlockingIOError:
                sock.close()
                break
            with contextlib.suppress(OSError):
                sock.send(first)
            pick.register(sock, selectors.EVENT_READ)
            missing -= 1
        if not said and (not missing or time.monotonic() > end):
            said = True
            ready()
        for key, _ in pick.select(0.05):
            with contextlib.suppress(BlockingIOError):
                try:
                    gone = not key.fileobj.recv(65536)
                except ConnectionError:
                    gone = True
                if gone:
                    pick.unregister(key.fileobj)
                    key.fileobj.close()
                    missing += 1


def silent(path, _):
    crowd(path, b"")


def half(path, _):
    """Each has sent half of a frame that says it is large."""
    crowd(path, struct.pack(">I", 60 << 20) + bytes(60 << 10))


def spoken(path, prefix):
    """Each has asked something, once."""
    crowd(path, frame(encode_request(1, path=prefix)))


def bytes_(path, prefix):
    """Plain connections that send frames of 60 MiB, all but the last byte."""
    ok = frame(encode_request(1, path=prefix))
    socks = []
    for _ in range(32):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.sendall(ok + struct.pack(">I", 60 << 20))
        socks.append(sock)
    left = {sock: (60 << 20) - 1 for sock in socks}
    chunk = bytes(1 << 20)
    while left:
        for sock in list(left):
            try:
                left[sock] -= sock.send(chunk[:left[sock]])
            except OSError:
                left[sock] = 0
            if not left[sock]:
                del left[sock]
    ready()
    threading.Event().wait()


def threads(path, _):
    """Very many connections, each of which has as many requests in flight as it is let, and reads no reply."""
    guests = []
    for _ in range(400):
        try:
            guest = Guest(path)
            fh = guest.open("attacked", "file", flags=0)
        except (EOFError, OSError, KeyError):
            break
        guest.batch = b"".join(extended(n, k0=47, k8=fh, k10=0, k12=1 << 20) for n in range(1000, 1064))
        guests.append(guest)
    for guest in guests:
        guest.sock.setblocking(False)
        with contextlib.suppress(OSError):
            guest.sock.send(guest.batch)
    ready()
    threading.Event().wait()


ATTACKS = {f.__name__.strip("_"): f for f in (listings, deaf_listings, fences, pings, oneway, locks, opens, walks, silent, half,
                                              spoken, bytes_, threads)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--socket", required=True, metavar="PATH")
    parser.add_argument("--prefix", default="/workspace")
    parser.add_argument("attack", choices=ATTACKS)
    options = parser.parse_args()

    def end_with_input():
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    while True:
        with contextlib.suppress(OSError, EOFError):
            ATTACKS[options.attack](options.socket, options.prefix)
        time.sleep(0.1)  # it was thrown out: again


if __name__ == "__main__":
    sys.exit(main())
