#!/usr/bin/python3
# All names become void (RESET) while the reply to a mkdir waits for a page that a READ has locked: the mkdir returns when
# the READ does, though what takes back the new directory's attributes finds nothing before.
# timeout: 60
# mounts: none
# as: root
import os
import socket
import struct
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, TMP, bash, counter, put, receive, same, umount_vfs, wait_for

STATS, AT, SERVED, PROXIED, LARGE = TMP + "/stats", TMP + "/mnt", TMP + "/s", TMP + "/proxied", 8 << 10
ACK = b"\0\x18\x41"  # {op: 65, ...}
hold, go, held, acked = (threading.Event() for _ in range(4))


def frames(s):
    """The HELLO, which is plain, and then the extended ones."""
    head = receive(s, 4)
    yield head + receive(s, *struct.unpack(">I", head))
    while True:
        head = receive(s, 8)
        yield head + receive(s, struct.unpack(">II", head)[0])


def to_server(client, server):
    for frame in frames(client):
        server.sendall(frame)
        if frame[9:12] == ACK:
            acked.set()


def to_client(server, client):
    """A large reply, and so the content of a file, is held if `hold` says so; others overtake it."""
    lock = threading.Lock()

    def send(frame, later):
        if later:
            go.wait()
        with lock:
            client.sendall(frame)

    for frame in frames(server):
        if hold.is_set() and len(frame) > LARGE:
            threading.Thread(target=send, args=(frame, True), daemon=True).start()
            held.set()
        else:
            send(frame, False)


def proxy():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(PROXIED)
    listener.listen()
    client, server = listener.accept()[0], socket.socket(socket.AF_UNIX)
    server.connect(SERVED)
    for pump, pair in (to_server, (client, server)), (to_client, (server, client)):
        threading.Thread(target=quietly, args=(pump, *pair), daemon=True).start()


def quietly(pump, a, b):
    try:
        pump(a, b)
    except (EOFError, OSError):
        for s in a, b:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def start(call, *args):
    t = threading.Thread(target=call, args=args, daemon=True)
    t.start()
    return t


def read_start():
    with open(f"{AT}/file", "rb") as f:
        same("what was read", b"x", f.read(1))


os.mkdir(f"{HOST}/void")
put(f"{HOST}/file", b"x" * (1 << 20))
server = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{SERVED}", HOST], stdin=subprocess.DEVNULL)
try:
    wait_for(lambda: os.path.exists(SERVED), 10, "the server listens")
    start(proxy)
    wait_for(lambda: os.path.exists(PROXIED), 10, "the proxy listens")
    bash('mount_vfs "$1" "$2" "$3"', f"unix:{PROXIED}", AT, f"lease=600,stats={STATS}")
    same("listed", ["file", "void"], sorted(os.listdir(AT)))
    hold.set()
    reader = start(read_start)
    wait_for(held.is_set, 10, "the content is on its way, and its pages are locked")
    hold.clear()
    with open(f"{HOST}/file", "r+b") as f:
        f.write(b"x")
    wait_for(lambda: counter("inval.waiting", STATS) > 0, 10, "a notification waits for the page")
    mkdir = start(os.mkdir, f"{AT}/new")
    wait_for(lambda: counter("fence.waits", STATS) > 0, 10, "the reply to the mkdir waits for the notification")
    acked.clear()
    bash('must mount -t tmpfs tmpfs "$VFS_HOST/void"')
    wait_for(acked.is_set, 10, "the RESET is acknowledged, and all names passed")
    same("resets", 1, counter("inval.resets", STATS))
    go.set()
    for t in mkdir, reader:
        wait_for(lambda t=t: not t.is_alive(), 10, "the mkdir and the reader go on")
    same("the new directory", [], os.listdir(f"{AT}/new"))
    os.mkdir(f"{AT}/another")
    umount_vfs(AT)
finally:
    go.set()
    bash('umount "$VFS_HOST/void" 2>/dev/null || :')
    server.terminate()
    server.wait()
