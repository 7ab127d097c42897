#!/usr/bin/python3
# While the connection is down, vfsstat tells so, and for how long, and what waits; who waits can be killed; the client ends when it
# is told to; soft calls end after timeo=, and without reconnect all of them at once. After umount the server has nothing of the
# client; of one that was killed, nothing after the grace time.
# timeout: 120
# mounts: none
# as: root user
import errno
import os
import signal
import sys
import time
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, SLOW, bash, check, get, put, refused, same, wait_for
from links import Line


def note(text):
    print("# " + text, flush=True)


def waits(m, count):
    wait_for(lambda: m.figures()["fuse.pending"] >= count, 20, f"{count} requests of the kernel wait")
    check(m.figures()["rpc.waiting"] >= count, "for a connection")


def away(line, count):
    wait_for(lambda: line.count("server.away") == count, 20, f"for the server {count} clients are away")


def shown(line):
    note("what is shown while it is down")
    for directory in "a", "b", "c":  # whoever makes a name keeps his directory locked
        os.mkdir(f"{HOST}/{directory}")
    m = line.mount("list_after=0")  # each look-up waits by itself
    put(f"{m.at}/known", b"x" * 10000)
    same("content", b"x" * 10000, get(f"{m.at}/known"))
    same("state", "connected", m.state())
    line.down(m)
    since = m.count("conn.since")
    check(0 < since <= time.monotonic_ns(), "it became so in the past")
    wait_for(lambda: m.count("conn.tries") >= 3, 20, "it is tried again and again")
    same("since, still", since, m.count("conn.since"))
    same("lost", 1, m.count("conn.lost"))
    same("resumed", 0, m.count("conn.resumed"))
    same("what is promised is answered", b"x" * 10000, get(f"{m.at}/known"))
    maker, looker = line.start(f"os.mkdir('{m.at}/a/made')"), line.start(f"os.stat('{m.at}/b/absent')")
    waits(m, 2)
    check(maker.poll() is None and looker.poll() is None, "they wait")

    note("who waits is killed at once")
    victim = line.start(f"os.mkdir('{m.at}/c/perhaps')")
    waits(m, 3)
    victim.kill()
    same("how it ended", -signal.SIGKILL, victim.wait(20 * SLOW))
    away(line, 1)

    note("it goes on")
    line.up(m)
    same("mkdir", "done", line.ended(maker))
    same("stat", str(errno.ENOENT), line.ended(looker))
    same("state", "connected", m.state())
    check(m.count("conn.since") > since, "since then")
    wait_for(lambda: m.figures()["rpc.waiting"] == 0, 20, "nothing waits")
    away(line, 0)
    check(os.path.isdir(f"{HOST}/a/made"), "made on the host")
    m.unmount()
    line.at_start()


def ends(line, how):
    note(f"{how} while it is down")
    m = line.mount()
    put(f"{m.at}/file", b"1")
    line.down(m)
    waiting = line.start(f"os.mkdir('{m.at}/never')") if how == "SIGTERM" else None
    if how == "SIGTERM":
        waits(m, 1)
        os.kill(m.pid, signal.SIGTERM)
        check(line.ended(waiting) in (str(errno.ENOTCONN), str(errno.ECONNABORTED)), "who waits is told")
        bash('wait_for 10 no_clients_of "$1"; wait_for 10 is_unmounted "$1"', m.at)
        m.mounted = False
    else:
        m.unmount()
    away(line, 1)
    line.proxy.allow()


def soft(line):
    note("soft,timeo=1")
    m = line.mount("soft,timeo=1")
    put(f"{m.at}/file", b"1")
    fd = os.open(f"{m.at}/file", os.O_RDWR)
    line.down(m)
    refused(errno.ETIMEDOUT, os.mkdir, f"{m.at}/d")
    refused(errno.ETIMEDOUT, os.stat, f"{m.at}/absent")
    refused(errno.ETIMEDOUT, os.pwrite, fd, b"2", 0)
    line.up(m)
    os.mkdir(f"{m.at}/e")
    same("written", 1, os.pwrite(fd, b"3", 0))
    os.close(fd)
    same("on the host", b"3", get(f"{HOST}/file"))
    m.unmount()


def half_open(line):
    note("the server vanishes without a word")
    m = line.mount("lease=1")
    put(f"{m.at}/file", b"1")
    for way in "to-server", "to-client":
        line.proxy.swallow(way)
    waiting = line.start(f"os.mkdir('{m.at}/made')")
    wait_for(lambda: m.count("conn.lost") > 0, 20, "the connection is taken for lost")
    line.proxy.go()
    same("mkdir", "done", line.ended(waiting))
    check(m.count("conn.resumed") > 0, "it is connected again")
    os.rmdir(f"{m.at}/made")
    m.unmount()


def for_good(line):
    note("reconnect=no")
    m = line.mount("reconnect=no")
    put(f"{m.at}/file", b"1")
    line.proxy.cut()
    wait_for(lambda: m.state() == "lost", 20, "it is lost")
    refused(errno.ENOTCONN, os.mkdir, f"{m.at}/d")
    same("tries", 0, m.count("conn.tries"))
    m.unmount()
    away(line, 0)


def killed(line):
    note("a client is killed: the server keeps its session for the grace time")
    m = line.mount()
    put(f"{m.at}/file", b"1")
    fd = os.open(f"{m.at}/file", os.O_RDONLY)
    wait_for(lambda: line.count("server.files") > 0, 20, "the server has its file open")
    os.kill(m.pid, signal.SIGKILL)
    wait_for(lambda: line.count("server.sessions") == 0, 20, "the connection has ended")
    refused(errno.ENOTCONN, os.close, fd)
    bash('wait_for 10 no_clients_of "$1"', m.at)
    m.unmount()


with Line("waiting", ["--session-grace=600"]) as l:
    shown(l)
    ends(l, "umount")
with Line("ending", ["--session-grace=600"]) as l:
    ends(l, "SIGTERM")
with Line("soft") as l:
    soft(l)
    half_open(l)
    for_good(l)
    l.at_start()
with Line("kept", ["--session-grace=600"]) as l:
    killed(l)
    same("away", 1, l.count("server.away"))
    check(l.count("server.files") > 0, "its file is open")
with Line("grace", ["--session-grace=1"]) as l:
    killed(l)
    l.at_start()
