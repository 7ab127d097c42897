#!/usr/bin/python3
# With no_open the kernel opens, truncates and closes without OPEN and RELEASE, and all else is as with them: changes of
# the host show, files that lost their name stay, appends go to the end; the server's open files are bounded and given back.
# timeout: 240
# mounts: none
# as: root user
# needs: git
import fcntl
import json
import mmap
import os
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, MNT, TMP, bash, check, fence, get, put, same, skip, umount_vfs, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    skip("a bind mount counts nothing")
# KEPT: open files of the server that a mount keeps. Of LIMIT files it has three tenths for those, lends seven eighths of
# that, and seven eighths of what it lends to the first client (src/host/handle.c).
FILES, MANY, LIMIT = 60, 1500, 4096
LENT = LIMIT // 2 // 5 * 3 - LIMIT // 2 // 5 * 3 // 8
KEPT = LENT - LENT // 8
OTHER = TMP + "/other"  # the same, where the kernel asks
SOURCE = f"unix:{TMP}/s"
os.chdir("/")


def note(text):
    print("# " + text, flush=True)


def figures(at):
    return json.loads(subprocess.run([BIN + "/vfsstat", "--json", at], stdin=subprocess.DEVNULL, check=True,
                                     stdout=subprocess.PIPE, text=True).stdout)


def counts(at=MNT):
    f = figures(at + ".stats")
    return {"OPEN": f.get("fuse.op.OPEN.count", 0), "RELEASE": f.get("fuse.op.RELEASE.count", 0),
            "requests": f["fuse.requests"], "trips": f["rpc.requests"], "opens": f.get("rpc.op.OPEN.count", 0),
            "reads": f.get("fuse.op.READ.count", 0)}


def settled(at=MNT):
    """The counts, once what comes after the calls, RELEASE and FORGET, has come."""
    last = [None, 0]

    def quiet():
        now = counts(at)
        last[:] = [now, last[1] + 1 if now == last[0] else 0]
        return last[1] >= 5
    wait_for(quiet, 10, "the mount is quiet")
    return last[0]


def counted(what, at=MNT):
    before = settled(at)
    what()
    return {k: v - before[k] for k, v in settled(at).items()}


def mount(at, options):
    bash('mount_vfs "$1" "$2" "$3"', SOURCE, at, f"stats={at}.stats,{options}")


def refused_mount(code, text, options, lines=1):
    os.makedirs(OTHER, exist_ok=True)
    done = subprocess.run([BIN + "/vsockfs", SOURCE, OTHER, "-o", options], stdin=subprocess.DEVNULL, check=False,
                          capture_output=True, text=True)
    same(f"exit code with {options} ({done.stderr})", code, done.returncode)
    check(text in done.stderr and done.stderr.count("\n") <= lines, f"{options}: was to say '{text}', said {done.stderr!r}")


def opening():
    def cat():
        done = subprocess.run(["cat", *(f"{at}/warm/f{n}" for n in range(FILES))], check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        same("content", b"".join(b"file %d\n" % n for n in range(FILES)), done.stdout)

    os.mkdir(HOST + "/warm")
    for n in range(FILES):
        put(f"{HOST}/warm/f{n}", b"file %d\n" % n)
    for at in (MNT, OTHER):
        cat()
        bash('must "$VFS_BIN/vfsstat" sync "$1"', f"{at}.stats")  # what tells of the host's files may be late
        cat()
    at = MNT
    for _ in range(5):
        found = counted(cat)
        if found["requests"] != found["reads"] or found["reads"] == 0:
            break  # else the kernel has let go of pages
    check(found["requests"] == 0 and found["trips"] == 0, f"the third cat of {FILES} files: {found}")
    same("OPENs that the kernel ever sent, the first answered ENOSYS", 1, counts()["OPEN"])
    at = OTHER
    found = counted(cat, OTHER)
    check(found["OPEN"] == FILES and found["RELEASE"] == FILES, f"the same without no_open: {found}")

    def made():
        for n in range(FILES):
            put(f"{MNT}/warm/new{n}", b"made")
            same("made", b"made", get(f"{HOST}/warm/new{n}"))
    found = counted(made)
    same("RELEASE of files that were made", 0, found["RELEASE"])
    same("opens besides CREATE", 0, found["opens"])


def without_a_name():
    for by in ("guest", "host"):
        for touched in (False, True):
            for how in ("unlinked", "replaced"):
                what = f"{how} by the {by}, {'read' if touched else 'untouched'} before"
                name, top = f"{how}-{by}-{touched}", MNT if by == "guest" else HOST
                put(f"{HOST}/{name}", b"0123456789")
                fence(MNT)
                fd = os.open(f"{MNT}/{name}", os.O_RDWR)
                if touched:
                    same(what, b"0123", os.pread(fd, 4, 0))
                if how == "unlinked":
                    os.unlink(f"{top}/{name}")
                else:
                    put(f"{top}/{name}.new", b"another")
                    os.rename(f"{top}/{name}.new", f"{top}/{name}")
                fence(MNT)
                # a server that watches by directory does not see what a rename took
                if os.environ["VFS_AS"] == "root" or (how, by) != ("replaced", "host"):
                    same(f"{what}: links", 0, os.fstat(fd).st_nlink)
                same(f"{what}: content", b"0123456789", os.pread(fd, 100, 0))
                os.pwrite(fd, b"AB", 4)
                same(f"{what}: after a write", b"0123AB6789", os.pread(fd, 100, 0))
                os.ftruncate(fd, 5)
                same(f"{what}: after a truncation", (b"0123A", 5), (os.pread(fd, 100, 0), os.fstat(fd).st_size))
                os.fsync(fd)
                same(f"{what}: what has the name", None if how == "unlinked" else b"another",
                     get(f"{MNT}/{name}") if os.path.exists(f"{MNT}/{name}") else None)
                os.close(fd)


def truncating():
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):
        put(HOST + "/trunc", b"long content\n")
        fence(MNT, OTHER)
        same("before", b"long content\n", get(MNT + "/trunc"))
        same("before, elsewhere", b"long content\n", get(OTHER + "/trunc"))
        os.close(os.open(MNT + "/trunc", flags | os.O_TRUNC))
        same("on the host", b"", get(HOST + "/trunc"))
        same("in the mount", (b"", 0), (get(MNT + "/trunc"), os.stat(MNT + "/trunc").st_size))
        same("in the other mount", b"", get(OTHER + "/trunc"))
        put(MNT + "/trunc", b"short\n")
        same("written on the host", b"short\n", get(HOST + "/trunc"))


def appending():
    def lines(name, count):
        return [f"{name} {i} ".encode() + b"x" * (i * 37 % 3000) + b" end" for i in range(count)]

    put(HOST + "/log", b"")
    fence(MNT)
    children = {}
    for name in ("one", "two"):
        pid = os.fork()
        if not pid:
            fd = os.open(MNT + "/log", os.O_WRONLY | os.O_APPEND)
            os._exit(any(os.write(fd, line + b"\n") != len(line) + 1 for line in lines(name, 200)))
        children[pid] = name
    for pid, name in children.items():
        same(f"the writer {name}", 0, os.waitpid(pid, 0)[1])
    found = get(HOST + "/log").split(b"\n")[:-1]
    for name in children.values():
        same(f"lines of {name}, whole and in order", lines(name, 200),
             [line for line in found if line.startswith(name.encode())])
    same("lines", 400, len(found))
    # The end has moved on the host since the guest's kernel heard of it.
    fd = os.open(MNT + "/log", os.O_RDWR | os.O_APPEND)
    size = os.fstat(fd).st_size
    for n in range(20):
        with open(HOST + "/log", "ab") as log:
            log.write(b"host %02d\n" % n)
        os.write(fd, b"guest %02d\n" % n)
    fence(MNT)
    all_of_it = b"".join(b"host %02d\nguest %02d\n" % (n, n) for n in range(20))
    same("appended in turns, on the host", all_of_it, get(HOST + "/log")[size:])
    same("the same in the mount", all_of_it, os.pread(fd, 1000, size))
    os.close(fd)


def edited_on_the_host():
    put(HOST + "/edited", b"a" * 10000)
    fence(MNT)
    fd = os.open(MNT + "/edited", os.O_RDONLY)
    mapped = mmap.mmap(fd, 10000, prot=mmap.PROT_READ)
    for n, data in enumerate((b"b" * 10000, b"c" * 12345, b"d" * 10001)):
        same("through the descriptor", b"abc"[n:n + 1] * 4, os.pread(fd, 4, 5000))
        same("mapped", b"abc"[n:n + 1] * 4, mapped[5000:5004])
        put(HOST + "/edited", data)
        fence(MNT)
        same("after a fence, through the descriptor", data, os.pread(fd, 20000, 0))
        same("mapped", data[:10000], mapped[:])
        same("opened again", data, get(MNT + "/edited"))
    mapped.close()
    os.close(fd)
    # stores go to the host
    with open(MNT + "/edited", "r+b") as f, mmap.mmap(f.fileno(), 10000) as m:
        m[4000:4005] = b"store"
        m.flush()
        same("stored", b"dstored", get(HOST + "/edited")[3999:4006])
        os.ftruncate(f.fileno(), 4003)
    same("cut", b"dsto", get(HOST + "/edited")[3999:])
    # the other mount writes
    put(OTHER + "/edited", b"other")
    same("written in the other mount", b"other", get(MNT + "/edited"))


def executed_on_the_host():
    # A file that is open for writing is busy. The look-up goes the way of the CLOSE, and comes later.
    for mode in (0o644, 0o755, 0o555):
        path = f"{MNT}/program{mode:o}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        for part in (b"#!/bin/sh\n", b"echo ran\n"):
            os.write(fd, part)
        os.fchmod(fd, 0o755)
        os.close(fd)
        check(not os.path.exists(path + ".absent"), "a name that is not there")
        same(f"said on the host by what was made with mode {mode:o}", "ran\n",
             subprocess.run([HOST + path[len(MNT):]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            check=True).stdout)


def git():
    def run(*args):
        return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t.invalid", *args], cwd=MNT + "/repo",
                              check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    os.mkdir(MNT + "/repo")
    run("init", "-q")
    for n in range(30):
        put(f"{MNT}/repo/file{n}", os.urandom(100 * n))
    run("add", ".")
    run("commit", "-qm", "first")
    same("status", "", run("status", "--porcelain"))
    put(HOST + "/repo/file3", b"edited on the host\n")
    fence(MNT)
    same("status after an edit on the host", " M file3\n", run("status", "--porcelain"))
    run("commit", "-qam", "second")
    run("gc", "-q")
    run("fsck", "--strict")
    same("log", 2, len(run("log", "--oneline").splitlines()))


def locks():
    put(MNT + "/lock", b"")
    with open(MNT + "/lock", "r+b") as a, open(MNT + "/lock", "r+b") as b:
        fcntl.flock(a, fcntl.LOCK_EX)
        try:
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
            check(False, "two have the lock")
        except BlockingIOError:
            pass
        with open(HOST + "/lock", "r+b") as host:
            fcntl.flock(host, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is the guest's own


def tortured():
    os.mkdir(HOST + "/torture")
    fence(MNT, OTHER)
    more = [] if os.environ["VFS_AS"] == "root" else ["--any-links"]
    done = subprocess.run([os.environ["VFS_TESTS"] + "/coherence/torture", "--settle", "fence,quiet", "--no-open",
                           "--seconds", "6", *more, HOST + "/torture", MNT + "/torture", OTHER + "/torture"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    same(f"the torture test, which says {done.stdout}{done.stderr}", 0, done.returncode)


def many():
    def open_files():
        return figures(TMP + "/served")["server.files"]

    umount_vfs(OTHER)  # which keeps some, too
    os.mkdir(HOST + "/many")
    for n in range(MANY):
        put(f"{HOST}/many/f{n}", b"%d" % n)
    for n in range(MANY):
        same("content", b"%d" % n, get(f"{MNT}/many/f{n}"))
    wait_for(lambda: KEPT // 2 < open_files() <= KEPT, 20, f"of {MANY} files that were read {KEPT} at most are open")
    held = [os.open(f"{MNT}/many/f{n}", os.O_RDWR) for n in range(0, MANY, 100)]
    for n in range(MANY):  # again, most of them closed meanwhile; and now there are two of many
        with open(f"{MNT}/many/f{n}", "r+b") as f:
            f.write(b"%05d" % n)
    for i, fd in enumerate(held):
        same("one that was open all the while", b"%05d" % (100 * i), os.pread(fd, 10, 0))
        os.close(fd)
    for n in range(MANY):
        same("on the host", b"%05d" % n, get(f"{HOST}/many/f{n}"))
    wait_for(lambda: KEPT // 4 < open_files() <= KEPT, 20, f"at most {KEPT} files are open")
    for n in range(MANY):
        os.unlink(f"{MNT}/many/f{n}")
    wait_for(lambda: open_files() < KEPT // 4, 20, "what the kernel has forgotten is closed")
    umount_vfs(MNT)
    wait_for(lambda: open_files() == 0, 20, "no file is open")


server = subprocess.Popen(["prlimit", f"--nofile={LIMIT}", BIN + "/vsockfsd", "--listen", SOURCE, f"--pidfile={TMP}/s.pid",
                           f"--stats={TMP}/served", HOST], stdin=subprocess.DEVNULL)
try:
    wait_for(lambda: os.path.exists(TMP + "/s.pid") and os.path.getsize(TMP + "/s.pid"), 10, "the server listens")
    note("refused where it would not be true")
    refused_mount(2, "no_open needs cache=lease", "no_open,cache=none")
    refused_mount(2, "no_open needs cache=lease", "cache=ttl,no_open")
    refused_mount(2, "no_open and locks=host", "no_open,locks=host")
    refused_mount(2, "proto=plain and no_open exclude each other", "no_open,proto=plain,plain_base=/workspace")
    mount(MNT, "no_open")
    mount(OTHER, "locks=local")
    for step in (opening, without_a_name, truncating, appending, edited_on_the_host, executed_on_the_host,
                 git, locks, tortured, many):
        note(step.__name__)
        step()
finally:
    server.terminate()
    server.wait()
