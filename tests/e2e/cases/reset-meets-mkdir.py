#!/usr/bin/python3
# All names become void (RESET) while the reply to a mkdir waits for a page that a READ has locked: the mkdir returns when
# the READ does, though what takes back the new directory's attributes finds nothing before.
# timeout: 60
# mounts: none
# as: root
import os
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, TMP, bash, counter, put, same, umount_vfs, wait_for
from proxy import Proxy

STATS, AT, SERVED, PROXIED = TMP + "/stats", TMP + "/mnt", TMP + "/s", TMP + "/proxied"


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
    proxy = Proxy(PROXIED, SERVED, 8 << 10)
    bash('mount_vfs "$1" "$2" "$3"', f"unix:{PROXIED}", AT, f"lease=600,stats={STATS}")
    same("listed", ["file", "void"], sorted(os.listdir(AT)))
    proxy.hold.set()
    reader = start(read_start)
    wait_for(proxy.held.is_set, 10, "the content is on its way, and its pages are locked")
    proxy.hold.clear()
    with open(f"{HOST}/file", "r+b") as f:
        f.write(b"x")
    wait_for(lambda: counter("inval.waiting", STATS) > 0, 10, "a notification waits for the page")
    mkdir = start(os.mkdir, f"{AT}/new")
    wait_for(lambda: counter("fence.waits", STATS) > 0, 10, "the reply to the mkdir waits for the notification")
    proxy.acked.clear()
    bash('must mount -t tmpfs tmpfs "$VFS_HOST/void"')
    wait_for(proxy.acked.is_set, 10, "the RESET is acknowledged, and all names passed")
    same("resets", 1, counter("inval.resets", STATS))
    proxy.go.set()
    for t in mkdir, reader:
        wait_for(lambda t=t: not t.is_alive(), 10, "the mkdir and the reader go on")
    same("the new directory", [], os.listdir(f"{AT}/new"))
    os.mkdir(f"{AT}/another")
    umount_vfs(AT)
finally:
    server.terminate()
    server.wait()
    # not before: until it has seen the client off, it has the names of that directory's listing open
    bash('umount "$VFS_HOST/void" 2>/dev/null || :')
