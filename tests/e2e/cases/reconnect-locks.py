#!/usr/bin/python3
# Locks of every kind exclude the host's programs and other mounts while their holder's connection is down, and after it was made
# again; who waits for one gets it once, or never if he was killed. When the server has released the locks of a client that was
# away for too long, every I/O under them gives EIO, and the file opened anew goes on. Those of a client that died are free by then.
# timeout: 120
# mounts: none
# as: root user
import ast
import errno
import os
import select
import signal
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, SLOW, bash, check, get, put, same, wait_for
from links import Line

KINDS = ("flock", "posix", "ofd")
ACTOR = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
def lock(kind, how=fcntl.F_WRLCK, wait=False):
    try:
        if kind == "flock":
            fcntl.flock(fd, (fcntl.LOCK_UN if how == fcntl.F_UNLCK else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        else:
            fcntl.fcntl(fd, {"posix": fcntl.F_SETLK, "ofd": 37}[kind] + wait,
                        struct.pack("hhqqi4x", how, os.SEEK_SET, 0, 0, 0))
        return True
    except (BlockingIOError, PermissionError):
        return False
while True:
    line = sys.stdin.readline()
    if not line:
        break
    try:
        said = eval(line)
    except OSError as e:
        said = e.errno
    print(repr(said), flush=True)
"""


def note(text):
    print("# " + text, flush=True)


class Actor:
    """A process that has a file open. Whoever has one open in a mount whose server is away waits when he closes it."""
    every = []

    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, "-S", "-c", ACTOR, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        self.every.append(self)

    def begin(self, expression):
        print(expression, file=self.process.stdin, flush=True)

    def answered(self):
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def answer(self):
        check(select.select([self.process.stdout], [], [], 30 * SLOW)[0], "it answers")
        return ast.literal_eval(self.process.stdout.readline())

    def ask(self, expression):
        self.begin(expression)
        return self.answer()

    def end(self):
        self.process.stdin.close()
        same("exit code", 0, self.process.wait(20 * SLOW))


def free(path, kind):
    """Whether somebody else could have it."""
    actor = Actor(path)
    had = actor.ask(f"lock({kind!r})")
    actor.end()
    return had


def held(line, m, other):
    for kind in KINDS:
        note(f"{kind}: held while the connection is lost and made again")
        put(f"{m.at}/{kind}", b"x")
        get(f"{other.at}/{kind}")
        actor = Actor(f"{m.at}/{kind}")
        check(actor.ask(f"lock({kind!r})"), "the lock is free")
        line.down(m)
        for where in HOST, other.at:
            check(not free(f"{where}/{kind}", kind), f"{where}: it is held, while down")
        line.up(m)
        for where in HOST, other.at, m.at:
            check(not free(f"{where}/{kind}", kind), f"{where}: it is held, afterwards")
        same("I/O under it", 1, actor.ask("os.pwrite(fd, b'y', 0)"))
        check(actor.ask(f"lock({kind!r}, fcntl.F_UNLCK)"), "unlocked")
        for where in HOST, other.at, m.at:
            check(free(f"{where}/{kind}", kind), f"{where}: it is free")
        actor.end()


def waited_for(line, m):
    for kind in KINDS:
        note(f"{kind}: waited for while the connection is lost and made again")
        name = f"waited.{kind}"
        put(f"{m.at}/{name}", b"x")
        host = Actor(f"{HOST}/{name}")
        check(host.ask(f"lock({kind!r})"), "the host has it")
        waiter, victim = Actor(f"{m.at}/{name}"), Actor(f"{m.at}/{name}")
        for actor in waiter, victim:
            actor.begin(f"lock({kind!r}, wait=True)")
        wait_for(lambda: m.figures()["fuse.pending"] >= 2, 20, "both wait")
        line.cut(m)
        line.down(m)
        victim.process.kill()
        line.up(m)
        same("killed while it is down", -signal.SIGKILL, victim.process.wait(20 * SLOW))
        check(not waiter.answered(), "the other one waits even now")
        host.end()
        check(waiter.answer(), "and gets it")
        check(not free(f"{HOST}/{name}", kind), "it is held on the host")
        waiter.end()
        wait_for(lambda: free(f"{HOST}/{name}", kind), 20, "it is free: who was killed has not got it")


def died(m):
    note("the locks of a client that was killed")
    put(f"{m.at}/died", b"x")
    holder = Actor(f"{m.at}/died")
    check(holder.ask("lock('flock')"), "it is free")
    os.kill(m.pid, signal.SIGKILL)
    bash('wait_for 10 no_clients_of "$1"', m.at)
    holder.end()
    m.unmount()
    host = Actor(f"{HOST}/died")
    host.begin("lock('flock', wait=True)")
    return host


def lost(line, m):
    note("away for too long: the locks are lost")
    for kind in KINDS:
        put(f"{m.at}/lost.{kind}", b"0123456789")
    put(f"{m.at}/unlocked", b"0123456789")
    actors = {kind: Actor(f"{m.at}/lost.{kind}") for kind in KINDS}
    bystanders = [Actor(f"{m.at}/lost.{kind}") for kind in KINDS]
    for kind, actor in actors.items():
        check(actor.ask(f"lock({kind!r})"), "the lock is free")
    line.down(m)
    hosts = {kind: Actor(f"{HOST}/lost.{kind}") for kind in KINDS}
    for kind, host in hosts.items():
        check(not host.ask(f"lock({kind!r})"), "the host does not get it")
        host.begin(f"lock({kind!r}, wait=True)")
    for host in hosts.values():
        check(host.answer(), "but once the client has been away for longer than its lease")
        same("the host writes", 4, host.ask("os.pwrite(fd, b'host', 0)"))
        host.end()
    # The answer to HELLO tells. That the one to RESUME is lost must not make the client forget it.
    line.proxy.cut_step("to-client", 1)
    line.up(m)
    same("files whose locks are lost", len(KINDS), m.count("conn.locks_lost"))
    for kind, actor in actors.items():
        for call in "os.pread(fd, 1, 0)", "os.pwrite(fd, b'z', 0)":
            same(f"{kind}: {call}", errno.EIO, actor.ask(call))
    for actor in bystanders:
        same("read by who had not locked it", b"host456789", actor.ask("os.pread(fd, 100, 0)"))
    for actor in [*actors.values(), *bystanders]:
        actor.end()
    for kind in KINDS:
        same(f"{kind}: opened anew", b"host456789", get(f"{m.at}/lost.{kind}"))
        actor = Actor(f"{m.at}/lost.{kind}")
        check(actor.ask(f"lock({kind!r})"), "the lock is free again")
        check(not free(f"{HOST}/lost.{kind}", kind), "and excludes the host")
        same("written", 1, actor.ask("os.pwrite(fd, b'z', 0)"))
        actor.end()


with Line("locks") as l:
    try:
        mount, second = l.mount(), l.mount(direct=True)
        held(l, mount, second)
        waited_for(l, mount)
        dead = l.mount(direct=True)
        host_waits = died(dead)
        lost(l, mount)
        check(host_waits.answer(), "the host gets the lock of the client that was killed")
        host_waits.end()
    finally:
        l.proxy.allow()
        for a in Actor.every:
            a.process.kill()
            a.process.wait()
    mount.unmount()
    second.unmount()
