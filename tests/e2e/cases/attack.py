#!/usr/bin/python3
# A guest that wants everything for itself, in each of its ways, beside an honest mount: all that that one asks is answered, its
# lease is never lost, and what the server takes stays below what doc/security.md says.
# timeout: 400
# mounts: none
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, SLOW, TMP, check, counter, fence, same, wait_for
sys.path.insert(0, os.environ["VFS_TOP"] + "/tests/support")
import attacker  # pylint: disable=wrong-import-position

SECONDS, STATS, CHANGES = 60, 100, 300
# Of the server, while one guest does its worst: see "What a guest may take" in doc/security.md.
THREADS, MIB = 3 * 1088 + 512 + 1024, 2048
# Enough to be in force, and quickly made.
attacker.BIG = 5000


def note(text):
    print("# " + text, flush=True)


class World:
    """A server of HOST, and an honest mount."""

    def __init__(self, name):
        self.at, self.mnt = f"{TMP}/{name}", f"{TMP}/{name}.mnt"
        os.mkdir(self.mnt)
        # pylint: disable-next=consider-using-with
        self.server = subprocess.Popen([BIN + "/vsockfsd", "--listen", "unix:" + self.at, "--listen", f"unix:{self.at}.other",
                                        f"--pidfile={self.at}.pid",
                                        f"--state-dir={self.at}.state", f"--stats={self.at}.server", "--plain-links=follow",
                                        "--log-level=error", HOST], stdin=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.at + ".pid") and os.path.getsize(self.at + ".pid"), SECONDS, "the server listens")
        self.client = self.mount(self.at, self.mnt, f"lease=30,stats={self.at}.stats")

    @staticmethod
    def mount(at, mnt, options):
        # pylint: disable-next=consider-using-with
        client = subprocess.Popen([BIN + "/vsockfs", "-f", "-o", options, "unix:" + at, mnt], stdin=subprocess.DEVNULL)
        wait_for(lambda: os.path.ismount(mnt), SECONDS, "the mount")
        return client

    def another(self):
        """Somebody else, by another socket, still comes in."""
        mnt = self.mnt + ".other"
        os.mkdir(mnt)
        client = self.mount(self.at + ".other", mnt, "ro")
        check(os.path.isdir(mnt + "/attacked"), "what is there")
        subprocess.run(["umount", mnt], check=True)
        same("the other client's end", 0, client.wait(SECONDS * SLOW))

    def taken(self):
        """Threads, descriptors and MiB of the server."""
        with open(f"/proc/{self.server.pid}/status", encoding="ascii") as f:
            told = dict(line.split(":", 1) for line in f)
        return int(told["Threads"]), len(os.listdir(f"/proc/{self.server.pid}/fd")), int(told["VmRSS"].split()[0]) >> 10

    def end(self):
        subprocess.run(["umount", self.mnt], check=True)
        same("the client's end", 0, self.client.wait(SECONDS * SLOW))
        self.server.send_signal(signal.SIGTERM)
        same("the server's end", 0, self.server.wait(SECONDS * SLOW))


@contextlib.contextmanager
def attacked(name, at):
    with subprocess.Popen([os.environ["VFS_TOP"] + "/tests/support/attacker.py", "--socket", at, name], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        try:
            check(select.select([process.stdout], [], [], SECONDS * SLOW)[0] and process.stdout.readline() == b"ready\n",
                  f"{name} is in force")
            yield process
            same(f"{name}: the attacker has ended before", None, process.poll())
        finally:
            process.kill()


def change_host(stop):
    n = 0
    while not stop.wait(1 / CHANGES):
        n += 1
        with open(f"{HOST}/attacked/big/entry-{n % attacker.BIG:05}", "ab") as f:
            f.write(b"x")


def honest(world, name):
    """What each of them asks the server for: names that are not there, a file that is made, written, locked, read and removed."""
    for n in range(STATS):
        check(not os.path.exists(f"{world.mnt}/{name}-{n}"), "a name that is not there")
    path = f"{world.mnt}/honest-{name}"
    with open(path, "w+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        f.write(name.encode())
        f.flush()
        fcntl.lockf(f, fcntl.LOCK_UN)
    with open(f"{HOST}/honest-{name}", "rb") as f:
        same("what was written", name.encode(), f.read())
    fence(world.mnt)
    os.unlink(path)


def one(name):
    note(name)
    world, stop = World(name), threading.Event()
    changes = threading.Thread(target=change_host, args=(stop,))
    changes.start()
    try:
        with attacked(name, world.at):
            honest(world, name)
            world.another()
            threads, fds, mib = world.taken()
            same(f"{name}: leases lost", 0, counter("inval.resets", world.at + ".stats"))
            same(f"{name}: connections lost", 0, counter("conn.lost", world.at + ".stats"))
            note(f"{name}: {threads} threads, {fds} descriptors, {mib} MiB")
            check(threads <= THREADS, f"{name}: the server has {threads} threads")
            check(mib <= MIB, f"{name}: the server takes {mib} MiB")
    finally:
        stop.set()
        changes.join()
    world.end()


attacker.prepare(HOST)
for attack in attacker.ATTACKS:
    one(attack)
