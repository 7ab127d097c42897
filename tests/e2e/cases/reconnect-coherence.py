#!/usr/bin/python3
# What the host and another mount do while a connection is down is seen when it is back, and nothing old after a fence; two mounts
# write, and one of them is cut. A client that does not acknowledge delays others once, by the server's --ack-timeout, and is right
# when it goes on; so is one that was stopped while the host changed what it knows.
# timeout: 120
# mounts: none
# as: root user
import os
import signal
import sys
import time
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, check, get, put, same, wait_for
from links import Line

ROUNDS = 30


def note(text):
    print("# " + text, flush=True)


def known(at):
    """All that a mount shows; what it has kept it shows without asking."""
    found = {}
    for directory, names, files in os.walk(at):
        names.sort()
        found[os.path.relpath(directory, at)] = sorted(names + files)
        for name in files:
            path = os.path.join(directory, name)
            stat = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else get(path)
            found[os.path.relpath(path, at)] = what, stat.st_size, stat.st_mode, stat.st_nlink, stat.st_mtime_ns
    return found


def make(at):
    os.mkdir(f"{at}/d")
    os.mkdir(f"{at}/d/empty")
    for name in "written", "grown", "cut", "removed", "moved", "chmod", "replaced", "linked":
        put(f"{at}/d/{name}", b"old " + name.encode())
    os.symlink("old", f"{at}/d/link")


def change(at):
    """One change of each kind."""
    put(f"{at}/d/written", b"new written")
    with open(f"{at}/d/grown", "ab") as f:
        f.write(b" and more")
    os.truncate(f"{at}/d/cut", 2)
    os.unlink(f"{at}/d/removed")
    os.rename(f"{at}/d/moved", f"{at}/d/empty/here")
    os.chmod(f"{at}/d/chmod", 0o600)
    put(f"{at}/d/new", b"new")
    os.rename(f"{at}/d/new", f"{at}/d/replaced")
    os.link(f"{at}/d/linked", f"{at}/d/second")
    os.unlink(f"{at}/d/link")
    os.symlink("new", f"{at}/d/link")
    os.mkdir(f"{at}/made")
    put(f"{at}/made/file", b"made")


def remove(at):
    for directory, names, files in os.walk(at, topdown=False):
        for name in files + [n for n in names if os.path.islink(f"{directory}/{n}")]:
            os.unlink(f"{directory}/{name}")
        for name in names:
            os.rmdir(f"{directory}/{name}")


def missed(line, m, by, what):
    note(f"{what} changes what the mount knows, while it is down")
    make(HOST)
    for mount in {m, *line.mounts}:
        mount.sync()
    same("known before", known(HOST), known(m.at))
    fd = os.open(f"{m.at}/d/removed", os.O_RDONLY)
    line.down(m)
    change(by)
    line.up(m)
    m.sync()
    same("known afterwards", known(HOST), known(m.at))
    same("the content of what was removed", b"old removed", os.pread(fd, 100, 0))
    same("its links", 0, os.fstat(fd).st_nlink)
    os.close(fd)
    remove(HOST)


def told_and_lost(line, m, other):
    note("the host changes what the mount knows, and what the server tells of it is lost")
    make(HOST)
    for mount in m, other:
        mount.sync()
    same("known before", known(HOST), known(m.at))
    before, resumed = line.count("server.pushed"), m.count("conn.resumed")
    line.proxy.swallow("to-client")
    line.proxy.refuse()
    change(HOST)
    other.sync()
    wait_for(lambda: line.count("server.pushed") > before, 20, "the server has told of it")
    line.proxy.cut()
    line.proxy.go()
    line.proxy.allow()
    m.goes_on(resumed + 1)
    m.sync()
    same("known afterwards", known(HOST), known(m.at))
    remove(HOST)


WRITER = "import sys\n" \
         "    fd = os.open('{path}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n" \
         "    for n in range({lines}):\n" \
         "        fcntl.flock(fd, fcntl.LOCK_EX)\n" \
         "        assert os.write(fd, b'%05d {who}\\n' % n) == {length}\n" \
         "        fcntl.flock(fd, fcntl.LOCK_UN)"


def both_write(line, m, other):
    note("two mounts and the host append to one file, and one mount is cut")
    places = {"a": m.at, "b": other.at, "c": HOST}
    lines = 200
    writers = [line.start(WRITER.format(path=f"{at}/shared", who=who, lines=lines, length=8)) for who, at in places.items()]
    while any(w.poll() is None for w in writers):
        line.cut(m)
    for w in writers:
        same("how a writer ended", "done", line.ended(w))
    for at in HOST, m.at, other.at:
        m.sync()
        other.sync()
        found = get(f"{at}/shared").splitlines()
        for who in places:
            same(f"{at}: lines of {who}", [b"%05d %s" % (n, who.encode()) for n in range(lines)],
                 [line for line in found if line.endswith(who.encode())])
        same(f"{at}: lines", lines * len(places), len(found))
    os.unlink(f"{m.at}/shared")


def silent(line, m, other):
    note("a client is stopped, and does not acknowledge")
    put(f"{HOST}/file", b"old")
    m.sync()
    same("known", b"old", get(f"{m.at}/file"))
    same("known to the other", b"old", get(f"{other.at}/file"))
    os.kill(m.pid, signal.SIGSTOP)
    try:
        same("not waited for before", 0, line.said("has not acknowledged"))
        put(f"{other.at}/file", b"new")
        same("waited for", 1, line.said("has not acknowledged"))
        for n in range(ROUNDS):
            put(f"{other.at}/file", b"%d" % n)
            os.mkdir(f"{other.at}/d{n}")
        same("waited for, and not again", 1, line.said("has not acknowledged"))
        wait_for(lambda: line.count("server.away") == 1, 20, "it is away")
    finally:
        os.kill(m.pid, signal.SIGCONT)
    m.goes_on()
    m.sync()
    same("after it went on", b"%d" % (ROUNDS - 1), get(f"{m.at}/file"))
    same("listed", sorted(os.listdir(HOST)), sorted(os.listdir(m.at)))
    put(f"{m.at}/file", b"by it")
    same("seen by the other", b"by it", get(f"{other.at}/file"))


def stopped(line, m, other):
    """Names, sizes, modes and contents: from the first question on nothing old is told once it is connected again."""
    note("a client is stopped for longer than it is waited for, and the host changes what it knows")
    make(HOST)
    for mount in m, other:
        mount.sync()
    same("known before", known(HOST), known(m.at))
    os.stat(f"{m.at}/d/grown")  # after it was read: its time of access was not known
    silences, resumed = line.said("has not acknowledged"), m.count("conn.resumed")
    os.kill(m.pid, signal.SIGSTOP)
    try:
        change(HOST)
        put(f"{other.at}/d/written", b"and again")  # of which the server asks for an acknowledgement
        wait_for(lambda: line.said("has not acknowledged") > silences, 20, "it is not waited for any more")
        wait_for(lambda: line.count("server.away") == 1, 20, "it is away")
        expected, size = known(HOST), os.stat(f"{HOST}/d/grown").st_size
    finally:
        begun = time.monotonic()
        os.kill(m.pid, signal.SIGCONT)
    asked, stale, old, last = 0, 0, begun, begun
    while old == last or m.count("conn.resumed") == resumed:
        for _ in range(100):  # of what the guest's kernel answers by itself
            last, asked = time.monotonic(), asked + 1
            if os.stat(f"{m.at}/d/grown").st_size != size:
                stale, old = stale + 1, last
        check(last < begun + 60, "still old after a minute")
    note(f"after it went on: {stale} of {asked} answers were old, the last of them after {(old - begun) * 1000:.2f} ms")
    m.sync()
    same("known afterwards", expected, known(m.at))
    remove(HOST)


for opt in "", "cache=ttl", "cache=none", "no_open":
    note(f"options: {opt or 'none'}")
    with Line("line", ["--ack-timeout=1"]) as l:
        mount, second = l.mount(opt), l.mount(direct=True)
        missed(l, mount, HOST, "the host")
        missed(l, mount, second.at, "another mount")
        if opt in ("", "no_open"):
            told_and_lost(l, mount, second)
        if opt != "no_open":
            both_write(l, mount, second)
with Line("ack", ["--ack-timeout=1"]) as l:
    mount, second = l.mount(), l.mount(direct=True)
    silent(l, mount, second)
    stopped(l, mount, second)
