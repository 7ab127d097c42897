#!/usr/bin/python3
# A connection that is lost is made again, and nobody sees it: while nothing happens, while writers append, with files open
# that have a name or none, in a directory that is somebody's, with every kind of cache, and when all but the reply to a change
# had been done.
# timeout: 240
# mounts: none
# as: root user
import errno
import os
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, SLOW, check, get, put, refused, same, wait_for
from links import Line

LINES = 400
WRITER = """
import os, sys
path, lines, mark = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
for n in range(lines):
    line = b"%06d %s\\n" % (n, os.path.basename(path).encode())
    assert os.write(fd, line) == len(line)
    if n == mark:
        os.write(1, b".")
os.close(fd)
"""


def note(text):
    print("# " + text, flush=True)


def writers(at, count):
    """They have all begun, and are in the middle of it."""
    all_of = [subprocess.Popen([sys.executable, "-S", "-c", WRITER, f"{at}/log{n}", str(LINES), "20"],
                               stdout=subprocess.PIPE) for n in range(count)]
    for w in all_of:
        same("a writer has begun", b".", w.stdout.read(1))
    return all_of


def end_well(all_of):
    for n, w in enumerate(all_of):
        same(f"exit code of writer {n}", 0, w.wait(60 * SLOW))
        w.stdout.close()


def exact(at, count):
    for n in range(count):
        found = get(f"{at}/log{n}").splitlines()
        for i, line in enumerate(found):
            same(f"{at}: log {n}, line {i}", b"%06d log%d" % (i, n), line)
        same(f"{at}: log {n}, lines", LINES, len(found))


def idle(line, m):
    note("nothing happens")
    put(f"{m.at}/file", b"content")
    line.cut(m)
    same("the content", b"content", get(f"{m.at}/file"))
    same("listed", ["file"], os.listdir(m.at))
    for n in range(3):
        line.cut(m)
        put(f"{m.at}/file", b"%d" % n)
        same("on the host", b"%d" % n, get(f"{HOST}/file"))
    same("lost", 4, m.count("conn.lost"))
    same("resumed", 4, line.count("server.resumed"))
    os.unlink(f"{m.at}/file")


def appending(line, m):
    note("writers append")
    all_of = writers(m.at, 4)
    for _ in range(8):
        line.cut(m)
    end_well(all_of)
    exact(HOST, 4)
    exact(m.at, 4)
    for n in range(4):
        os.unlink(f"{m.at}/log{n}")


def held_open(line, m):
    note("what is open stays open, with a name and without; a directory stays where somebody is")
    os.makedirs(f"{m.at}/a/b")
    os.chdir(f"{m.at}/a/b")
    put("named", b"0123456789")
    put("unlinked", b"0123456789")
    named, unlinked = os.open("named", os.O_RDWR), os.open("unlinked", os.O_RDWR)
    listing = os.scandir(m.at + "/a")
    os.unlink("unlinked")
    line.cut(m)
    for fd in named, unlinked:
        same("written", 2, os.pwrite(fd, b"AB", 4))
    line.cut(m)
    for fd in named, unlinked:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        same("content", b"0123AB6789", os.pread(fd, 100, 0))
        os.ftruncate(fd, 6)
        same("size", 6, os.fstat(fd).st_size)
        os.fsync(fd)
    same("links", (1, 0), (os.fstat(named).st_nlink, os.fstat(unlinked).st_nlink))
    same("where we are", f"{m.at}/a/b", os.getcwd())
    same("listed", ["named"], os.listdir("."))
    same("listed from before", ["b"], [e.name for e in listing])
    same("on the host", b"0123AB", get(f"{HOST}/a/b/named"))
    os.chdir("/")
    os.unlink(f"{m.at}/a/b/named")
    os.rmdir(f"{m.at}/a/b")
    os.rmdir(f"{m.at}/a")
    for fd in named, unlinked:
        os.close(fd)
    line.cut(m)


CHANGES = {
    "mkdir": lambda: os.mkdir("made"),
    "open O_EXCL": lambda: os.close(os.open("created", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "symlink": lambda: os.symlink("anywhere", "symlink"),
    "link": lambda: os.link("file", "link"),
    "mknod": lambda: os.mkfifo("fifo"),
    "rename": lambda: os.rename("from", "to"),
    "unlink": lambda: os.unlink("gone"),
    "rmdir": lambda: os.rmdir("empty"),
    "chmod": lambda: os.chmod("file", 0o600),
    "truncate": lambda: os.truncate("file", 3),
    "append": lambda: append("log", b"line\n"),
}


def append(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        same("appended", len(data), os.write(fd, data))
    finally:
        os.close(fd)


def replies_lost(line, m):
    """Each change is executed, and its reply lost; then again its request, in the middle; then reply and request by turns."""
    for name, faults in {"the reply is lost": [("to-client", 0)], "a part of the reply": [("to-client", 9)],
                         "the request is lost": [("to-server", 0)], "a part of the request": [("to-server", 11)],
                         "both": [("to-client", 0), ("to-server", 40)]}.items():
        note(f"{name} of each change")
        for what, change in CHANGES.items():
            os.mkdir(f"{m.at}/d")
            os.chdir(f"{m.at}/d")
            for made in "file", "from", "gone", "log":
                put(made, b"12345")
            os.mkdir("empty")
            for made in os.listdir("."):
                os.stat(made)
            before = m.count("conn.resumed")
            for fault in faults:
                line.proxy.cut_after(*fault)
            try:
                change()
            except OSError as e:
                check(False, f"{name}, {what}: {e}")
            line.proxy.steady()
            os.chdir("/")
            if what == "append":
                same("appended once", b"12345line\n", get(f"{HOST}/d/log"))
            wait_for(lambda: m.count("conn.resumed") > before, 10, f"{name}, {what}: the connection was lost")
            listed = os.listdir(f"{m.at}/d")
            same(f"{name}, {what}: listed", sorted(os.listdir(f"{HOST}/d")), sorted(listed))
            for entry in listed:
                (os.rmdir if entry in ("empty", "made") else os.unlink)(f"{m.at}/d/{entry}")
            os.rmdir(f"{m.at}/d")
    check(line.count("server.replayed") > 0, "no reply was ever given a second time")


def lost_again(line, m, twice):
    note("the connection is lost again while it is being made again, at each step; and one is made twice")
    fd = os.open(f"{m.at}/file", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    steps = [(way, n) for n in (0, 1) for way in ("to-server", "to-client")]
    for step in steps * 2:
        before = line.proxy.counts()["cuts"]
        line.proxy.cut_step(*step)
        line.cut(m)
        same(f"cut at {step}: times", 2, line.proxy.counts()["cuts"] - before)
        same("appended", 1, os.write(fd, b"."))
    if twice:  # for the server it is in the other one's hands until that has been silent for too long
        line.proxy.twice()
        line.cut(m)
        same("made twice", 1, line.proxy.counts()["doubled"])
    same("appended", 1, os.write(fd, b"."))
    os.close(fd)
    same("content", b"." * (len(steps) * 2 + 1), get(f"{HOST}/file"))
    os.unlink(f"{m.at}/file")


def read_only(line, m):
    note("an export that is read-only")
    same("content", b"x" * 100000, get(f"{m.at}/file"))
    fd = os.open(f"{m.at}/file", os.O_RDONLY)
    line.cut(m)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    same("content", b"x" * 100000, os.pread(fd, 1 << 20, 0))
    os.close(fd)
    refused(errno.EROFS, os.mkdir, f"{m.at}/d")
    same("listed", ["file"], os.listdir(m.at))


def leaves_nothing(line, m):
    m.unmount()
    line.at_start()


for options in "", "cache=none", "cache=ttl", "no_open":
    note(f"options: {options or 'none'}")
    with Line("line") as l:
        mount = l.mount(options)
        idle(l, mount)
        appending(l, mount)
        held_open(l, mount)
        replies_lost(l, mount)
        lost_again(l, mount, twice=not options)
        leaves_nothing(l, mount)
put(f"{HOST}/file", b"x" * 100000)
with Line("readonly", ["--read-only"]) as l:
    mount = l.mount()
    read_only(l, mount)
    leaves_nothing(l, mount)
