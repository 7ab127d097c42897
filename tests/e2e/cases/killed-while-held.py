#!/usr/bin/python3
# Replies of every kind wait for a page that a READ has locked, and the host does not answer that. Whoever is killed ends,
# and what he had done, and the host does then in his directories, is seen. When the server dies all end; when the
# mount is taken away they can be killed, and the client ends with the READ.
# timeout: 300
# mounts: none
# as: root
import os
import signal
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, TMP, bash, check, counter, put, wait_for
from proxy import Proxy

AT, IOC_FENCE = TMP + "/mnt", 0x80085601
CALLS = {
    "mkdir": "os.mkdir('made')",
    "rename": "os.rename('from', 'to')",
    "unlink": "os.unlink('gone')",
    "rmdir": "os.rmdir('empty')",
    "create": "open('created', 'x')",
    "link": "os.link('lock', 'link')",
    "chmod": "os.chmod('file', 0o600)",
    "stat": "os.stat('file')",
    "lock": "fcntl.flock(open('lock'), fcntl.LOCK_EX)",
    "fence": f"fcntl.ioctl(os.open('lock', os.O_RDONLY), {IOC_FENCE}, bytes(8))",
}
started, proxies = [], []


def start(call):
    """A process that makes the call; it is inside a request of it when this returns."""
    p = subprocess.Popen([sys.executable, "-S", "-c", f"import fcntl, os\nos.chdir({AT!r})\nos.write(1, b'.')\n{call}"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    started.append(p)
    check(p.stdout.read(1) == b".", f"{call}: begins")
    return p


def ended(p):
    return p.poll() is not None


def in_flight(p, call=""):
    """Inside a request of this call: it may be in another one before."""
    with open(f"/proc/{p.pid}/wchan", encoding="ascii") as f, open(f"/proc/{p.pid}/stack", encoding="ascii") as g:
        return "request" in f.read() and call in g.read()


class Held:
    """A mount of a server of its own, in which a READ has locked the pages of a file that the host has then changed."""

    def __init__(self, name):
        self.served, self.stats = f"{TMP}/{name}.s", f"{TMP}/{name}.stats"
        self.fences = 0
        self.server = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{self.served}", HOST],
                                       stdin=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.served), 10, "the server listens")
        self.proxy = Proxy(f"{TMP}/{name}.proxied", self.served, 8 << 10)
        proxies.append(self.proxy)
        for entry in os.listdir(HOST):
            bash('rm -rf "$VFS_HOST/$1"', entry)
        put(f"{HOST}/file", b"x" * (1 << 20))
        for entry in "from", "gone", "lock":
            put(f"{HOST}/{entry}", b"")
        os.mkdir(f"{HOST}/empty")
        bash('mount_vfs "$1" "$2" "$3"', f"unix:{self.proxy.at}", AT, f"lease=600,reconnect=no,stats={self.stats}")
        for entry in os.listdir(AT):
            os.stat(f"{AT}/{entry}")
        self.proxy.hold.set()
        self.reader = start("open('file').read(1)")
        wait_for(self.proxy.held.is_set, 10, "the content is on its way, and its pages are locked")
        self.proxy.hold.clear()
        with open(f"{HOST}/file", "r+b") as f:
            f.write(b"x")
        wait_for(lambda: self.counter("inval.waiting") > 0, 10, "a notification waits for the page")

    def counter(self, name):
        return counter(name, self.stats)

    def hold(self, which):
        """Makes these calls; each has its reply held."""
        calls = {name: start(CALLS[name]) for name in which}
        synchronise = sum(name in ("mkdir", "rename", "unlink", "rmdir", "create", "link", "lock") for name in which)
        before = self.fences
        for name, p in calls.items():
            wait_for(lambda p=p: in_flight(p, "ioctl" if name == "fence" else ""), 10, f"{name} waits")
        wait_for(lambda: self.counter("fence.waits") >= before + synchronise, 10, f"the replies of {which} are held")
        self.fences = before + synchronise
        return calls


def kill_each():
    h = Held("killed")
    # one at a time: who waits for a directory's lock has no reply that is held
    for name in CALLS:
        p = h.hold([name])[name]
        asked = h.counter("fuse.interrupts")
        p.send_signal(signal.SIGINT if name == "fence" else signal.SIGKILL)
        if name == "fence":
            wait_for(lambda: h.counter("fuse.interrupts") > asked, 10, "the kernel tells of the signal")
            p.kill()
        wait_for(lambda p=p: ended(p), 10, f"{name}: who is killed ends")
    check(not h.proxy.go.is_set() and not ended(h.reader), "the READ still waits")
    # what they did is seen, and so is what the host does
    for name in "made", "to", "created", "link":
        wait_for(lambda n=name: os.path.lexists(f"{AT}/{n}"), 10, f"{name} is there")
    for name in "from", "gone", "empty":
        wait_for(lambda n=name: not os.path.lexists(f"{AT}/{n}"), 10, f"{name} is not there")
    put(f"{HOST}/later", b"")
    wait_for(lambda: os.path.lexists(f"{AT}/later"), 10, "what the host has made is there")
    h.proxy.go.set()
    wait_for(lambda h=h: ended(h.reader), 10, "the reader ends")
    bash('umount_vfs "$1"', AT)
    h.server.terminate()
    h.server.wait()


def kill_server():
    for name in CALLS:
        h = Held(f"server-{name}")
        p = h.hold([name])[name]
        h.server.kill()
        h.server.wait()
        for q in p, h.reader:
            wait_for(lambda q=q: ended(q), 10, f"{name}: all end with the server")
        bash('umount_vfs "$1"', AT)


def take_mount_away():
    for name in CALLS:
        h = Held(f"mount-{name}")
        p = h.hold([name])[name]
        bash('must umount -l "$1"', AT)
        p.kill()
        wait_for(lambda p=p: ended(p), 10, f"{name}: who is killed ends")
        h.reader.kill()
        h.proxy.go.set()
        wait_for(lambda h=h: ended(h.reader), 10, "the reader ends")
        bash('wait_for 10 no_clients_of "$1"', AT)
        h.server.terminate()
        h.server.wait()


try:
    for part in kill_each, kill_server, take_mount_away:
        print(part.__name__, flush=True)
        part()
finally:
    for proxy in proxies:
        proxy.go.set()
    for p in started:
        p.kill()
        p.wait()
