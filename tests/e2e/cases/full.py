#!/usr/bin/env python3
# A file system that is full, a file at its limit, a disk that fails, a server without descriptors: each reaches the program that
# asked, at write, msync, fsync or close, with its own errno; what was taken before is there on both sides, and when there is room
# again everything goes on.
# timeout: 240
# mounts: none
import errno
import fcntl
import mmap
import os
import re
import subprocess
import sys

sys.path.insert(0, os.environ["VFS_E2E"])
from lib import *

if BIND:
    skip("the stand-in is no server of ours")
if os.geteuid() != 0:
    skip("no mounting without privileges")
PAGE = 4096
CHUNK = 64 << 10
host, guest = TMP + "/host", TMP + "/guest"
for at in host, guest:
    os.mkdir(at)


def note(text):
    print("# " + text, flush=True)


def run(*words, **more):
    r = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    check(r.returncode == 0, f"{' '.join(words)}: exit code {r.returncode}: {r.stderr.strip()}")
    return r.stdout.strip()


def free():
    s = os.statvfs(host)
    return s.f_bavail * s.f_bsize


def fails(code, call):
    """refused without the bytes in its words."""
    try:
        call()
    except OSError as e:
        same("errno", os.strerror(code), os.strerror(e.errno))
    else:
        fail(f"was to fail with '{os.strerror(code)}', and went through")


class Server:
    """vsockfsd on host with limits of prlimit(1), and a mount of it."""

    def __init__(self, *limits, options=""):
        self.pidfile, self.sock = TMP + "/pid", TMP + "/sock"
        put(self.pidfile, b"")
        self.process = subprocess.Popen(
            ["prlimit", *limits, "--", f"{BIN}/vsockfsd", "--listen", f"unix:{self.sock}", f"--pidfile={self.pidfile}",
             "--state-dir=none", host], stdin=subprocess.DEVNULL, close_fds=True)
        wait_for(lambda: get(self.pidfile) != b"", 20, "the server is ready")
        run(f"{BIN}/vsockfs", f"unix:{self.sock}", guest, *(["-o", options] if options else []))

    def end(self):
        run("umount", guest)
        same("the server is there", None, self.process.poll())
        self.process.terminate()
        same("exit code of the server", 0, self.process.wait(30 * SLOW))


def pattern(n, seed=0):
    return bytes((i * 7 + seed + (i >> 8)) & 0xff for i in range(256)) * (n // 256)


def both_have(name, content):
    """Not one byte less, more or else, on either side."""
    fence(guest)
    for side in host, guest:
        found = get(f"{side}/{name}")
        same(f"length of {side}/{name}", len(content), len(found))
        check(found == content, f"{side}/{name} has other content")


def fill(code):
    """Until nothing more fits."""
    fd = os.open(host + "/filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in 1 << 20, CHUNK, PAGE:
        try:
            while True:
                os.write(fd, bytes(size))
        except OSError as e:
            same("the host's own writes end", os.strerror(code), os.strerror(e.errno))
    os.close(fd)


def leave(n):
    """Room for about so many bytes."""
    fill(errno.ENOSPC)
    os.truncate(host + "/filler", os.stat(host + "/filler").st_size - n)


def roomy():
    os.unlink(host + "/filler")


def write_until(fd, code, flags=""):
    """Writes chunks; the content that was taken."""
    taken, chunk = b"", pattern(CHUNK)
    buffer = mmap.mmap(-1, CHUNK)  # aligned, for O_DIRECT
    buffer[:] = chunk
    while len(taken) < 64 << 20:
        try:
            n = os.write(fd, buffer)
        except OSError as e:
            same(f"write {flags}", os.strerror(code), os.strerror(e.errno))
            return taken
        check(n > 0, f"write {flags} returned 0")
        taken += chunk[:n]
        if n < CHUNK and len(taken) % 512:
            fails(code, lambda: os.pwrite(fd, bytes(CHUNK), len(taken)))
            return taken
    fail(f"write {flags} never failed")


def writes(code, all_flags=("O_RDWR", "O_APPEND", "O_SYNC", "O_DIRECT", "O_TRUNC")):
    for flags in all_flags:
        leave(5 * CHUNK + PAGE)
        name = f"written.{flags}"
        fd = os.open(f"{guest}/{name}", os.O_RDWR | os.O_CREAT | getattr(os, flags), 0o644)
        taken = write_until(fd, code, flags)
        check(len(taken) > CHUNK, f"{flags}: only {len(taken)} bytes were taken")
        os.fsync(fd)
        both_have(name, taken)
        roomy()
        os.ftruncate(fd, len(taken) // 512 * 512)
        taken = taken[:len(taken) // 512 * 512]
        os.lseek(fd, 0, os.SEEK_END)
        same("goes on", CHUNK, os.write(fd, mmap_of(pattern(CHUNK, 3))))
        os.close(fd)
        both_have(name, taken + pattern(CHUNK, 3))
        os.unlink(f"{guest}/{name}")


def mmap_of(data):
    m = mmap.mmap(-1, len(data))
    m[:] = data
    return m


def mapped(code):
    """A mapping over a hole: there is no room when its pages are written back."""
    for how in "msync", "fsync":
        size = 16 * CHUNK
        fd = os.open(f"{guest}/mapped", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, size)
        leave(3 * CHUNK)
        m = mmap.mmap(fd, size)
        m[:] = pattern(size, 1)
        refused(code, m.flush) if how == "msync" else refused(code, os.fsync, fd)
        roomy()
        m[:] = pattern(size, 2)
        m.flush()
        os.fsync(fd)
        m.close()
        os.close(fd)
        both_have("mapped", pattern(size, 2))
        os.unlink(f"{guest}/mapped")
    # with nobody to ask for it but the next fsync of who has it open
    fd = os.open(f"{guest}/mapped", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    leave(3 * CHUNK)
    m = mmap.mmap(fd, size)
    m[:] = pattern(size, 1)
    m.close()
    other = os.open(f"{guest}/mapped", os.O_RDWR)
    try:
        os.sync()
    except OSError:
        pass
    refused(code, os.fsync, fd)
    refused(code, os.fsync, other)
    os.close(other)
    os.close(fd)
    roomy()
    os.unlink(f"{guest}/mapped")


def others(code):
    size = 8 * CHUNK
    put(f"{guest}/source", pattern(size))
    fd = os.open(f"{guest}/other", os.O_RDWR | os.O_CREAT)
    source = os.open(f"{guest}/source", os.O_RDONLY)
    leave(PAGE * 4)
    refused(code, os.posix_fallocate, fd, 0, size)
    os.ftruncate(fd, 0)
    copied = 0
    try:
        while copied < size:
            n = os.copy_file_range(source, fd, size - copied, copied, copied)
            if n == 0:
                break
            copied += n
    except OSError as e:
        same("copy_file_range", os.strerror(code), os.strerror(e.errno))
    check(copied < size, "all was copied")
    both_have("other", pattern(size)[:copied])
    roomy()
    os.posix_fallocate(fd, 0, size)
    os.close(fd)
    os.close(source)
    os.unlink(f"{guest}/other")
    os.unlink(f"{guest}/source")


def names(code):
    """Until no name can be made: each way of making one says so; renaming and removing go on."""
    os.mkdir(guest + "/names")
    os.mkdir(guest + "/kept")
    put(guest + "/kept/old", b"old")
    fill(code)
    made = []
    long = "n" * 200
    try:
        for i in range(200000):
            os.symlink("t" * 1000, f"{guest}/names/{long}{i}")
            made.append(f"{long}{i}")
    except OSError as e:
        same("symlink", os.strerror(code), os.strerror(e.errno))
    else:
        fail("names never ended")
    fence(guest)
    same("names on the host", sorted(made), sorted(os.listdir(host + "/names")))
    same("names in the guest", sorted(made), sorted(os.listdir(guest + "/names")))
    for call in (lambda: os.mkdir(guest + "/names/" + "d" * 200), lambda: os.symlink("t" * 1000, guest + "/names/" + "s" * 200)):
        tries(call, code)
    check("d" * 200 not in os.listdir(host + "/names") or os.path.isdir(host + "/names/" + "d" * 200), "half of a directory")
    os.rename(guest + "/kept/old", guest + "/kept/new")
    same("renamed", b"old", get(host + "/kept/new"))
    for name in made:
        os.unlink(f"{guest}/names/{name}")
    roomy()
    os.mkdir(guest + "/names/dir")
    os.symlink("x", guest + "/names/link")
    run("rm", "-r", guest + "/names", guest + "/kept")


def tries(call, code):
    """It succeeds or fails with this errno, and nothing else."""
    try:
        call()
    except OSError as e:
        same("errno", os.strerror(code), os.strerror(e.errno))


def xattrs(code):
    put(guest + "/attributes", b"x")
    fill(errno.ENOSPC)
    got = None
    for i in range(4000):
        try:
            os.setxattr(guest + "/attributes", f"user.n{i}", b"v" * 1000)
        except OSError as e:
            got = e.errno
            break
    same("setxattr", os.strerror(code), os.strerror(got or 0))
    same("attributes", i, len(os.listxattr(host + "/attributes")))
    same("in the guest", i, len(os.listxattr(guest + "/attributes")))
    roomy()
    os.unlink(guest + "/attributes")


note("tmpfs with size=")
run("mount", "-t", "tmpfs", "-o", "size=8m", "none", host)
s = Server(options="xattr")
writes(errno.ENOSPC)
mapped(errno.ENOSPC)
others(errno.ENOSPC)
names(errno.ENOSPC)
s.end()
for options in "proto=plain,plain_base=/workspace", "no_open", "cache=none":
    note(f"the same with {options}")
    s = Server(options=options)
    writes(errno.ENOSPC, ("O_RDWR", "O_APPEND", "O_DIRECT"))
    mapped(errno.ENOSPC)
    s.end()
run("umount", host)

note("ext4 on a small disk")
image = TMP + "/image"


def make_disk(at, size, *options):
    with open(at, "wb") as f:
        f.truncate(size)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0", *options, at)


loops = os.path.exists("/dev/loop-control") and subprocess.run(["losetup", "-f"], capture_output=True).returncode == 0
if loops:
    make_disk(image, 24 << 20, "-N", "256")
    run("mount", "-o", "loop", image, host)
    s = Server(options="xattr")
    writes(errno.ENOSPC)
    mapped(errno.ENOSPC)
    others(errno.ENOSPC)
    xattrs(errno.ENOSPC)
    note("and no inode")
    os.mkdir(guest + "/many")
    try:
        for i in range(1000):
            os.close(os.open(f"{guest}/many/{i}", os.O_CREAT | os.O_WRONLY))
    except OSError as e:
        same("create", os.strerror(errno.ENOSPC), os.strerror(e.errno))
    check(i < 300, "inodes never ended")
    refused(errno.ENOSPC, os.mkdir, guest + "/many/dir")
    refused(errno.ENOSPC, os.symlink, "x", guest + "/many/link")
    refused(errno.ENOSPC, os.mkfifo, guest + "/many/fifo")
    same("names", sorted(os.listdir(host + "/many")), sorted(os.listdir(guest + "/many")))
    os.link(guest + "/many/0", guest + "/many/name")
    os.rename(guest + "/many/name", guest + "/many/name2")
    run("rm", "-r", guest + "/many")
    os.mkdir(guest + "/many")
    s.end()
    run("umount", host)

    note("a disk that fails: it ends in the middle of a file")
    make_disk(image, 64 << 20)
    run("mount", "-o", "loop", image, host)  # the loop device goes with the mount
    loop = run("findmnt", "-no", "SOURCE", host)
    size = 16 * CHUNK

    def disk_size(n):
        os.truncate(image, n)
        run("losetup", "-c", loop)

    def middle():
        """Of the one piece that the file is in: bytes of the disk."""
        lines = run("filefrag", "-v", host + "/file").splitlines()
        block = int(re.search(r"blocks? of (\d+) bytes", lines[1])[1])
        pieces = [re.findall(r"\d+", line) for line in lines[3:] if re.match(r" *\d+:", line)]
        same("pieces of the file", 1, len(pieces))
        return int(pieces[0][3]) * block + size // 2

    def forget_pages():
        fd = os.open(host + "/file", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)

    try:
        s = Server()
        fd = os.open(guest + "/file", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, size)
        same("written", size, os.write(fd, pattern(size)))
        os.fsync(fd)
        other = os.open(guest + "/file", os.O_RDWR)
        disk_size(middle())
        same("taken by the host's memory", size, os.pwrite(fd, pattern(size, 1), 0))
        refused(errno.EIO, os.fsync, fd)
        refused(errno.EIO, os.fdatasync, other)  # each who has it open hears it,
        os.fsync(fd)  # once
        m = mmap.mmap(fd, size)
        m[:] = pattern(size, 2)
        refused(errno.EIO, m.flush)
        m.close()
        sync = os.open(guest + "/file", os.O_RDWR | os.O_SYNC)
        fails(errno.EIO, lambda: os.pwrite(sync, pattern(CHUNK), size - CHUNK))
        same("written where there is a disk", CHUNK, os.pwrite(sync, pattern(CHUNK, 3), 0))
        for one in fd, other, sync:
            os.close(one)
        s.end()
        note("and what it has of the file is read, and not one byte else")
        forget_pages()
        fd = os.open(host + "/file", os.O_RDONLY | os.O_DIRECT)
        half = mmap.mmap(-1, size // 2)
        same("read on the host", size // 2, os.preadv(fd, [half], 0))
        os.close(fd)
        on_disk = half[:]
        s = Server()
        for flags in os.O_RDONLY, os.O_RDONLY | os.O_DIRECT:
            fd = os.open(guest + "/file", flags)
            found, code, buffer = b"", 0, mmap.mmap(-1, 3 * CHUNK)
            try:
                while True:
                    n = os.readv(fd, [buffer])
                    if n == 0:
                        break
                    found += buffer[:n]
            except OSError as e:
                code = e.errno
            same("the error of a read", os.strerror(errno.EIO), os.strerror(code))
            check(3 * CHUNK <= len(found) <= size // 2, f"{len(found)} bytes before it")
            same("the bytes that were synchronised", pattern(CHUNK, 3), found[:CHUNK])
            check(found == on_disk[:len(found)], "other bytes before it")
            same("the size", size, os.fstat(fd).st_size)
            fails(errno.EIO, lambda: os.preadv(fd, [mmap.mmap(-1, PAGE)], 12 * CHUNK))
            os.close(fd)
        note("and goes on when the disk does")
        disk_size(64 << 20)
        put(guest + "/file", pattern(size, 4))
        fd = os.open(guest + "/file", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        both_have("file", pattern(size, 4))
        s.end()
    finally:
        subprocess.run(["umount", "-l", guest], capture_output=True)
        subprocess.run(["umount", "-l", host], capture_output=True)
else:
    note("no loop devices: no small disk, and none that fails")

note("a limit of the server for the size of files")
limit = 5 * CHUNK + 1000
s = Server(f"--fsize={limit}:{limit}")
fd = os.open(guest + "/limited", os.O_RDWR | os.O_CREAT)
taken = write_until(fd, errno.EFBIG, "RLIMIT_FSIZE")
same("taken up to the limit", limit, len(taken))
both_have("limited", taken)
refused(errno.EFBIG, os.ftruncate, fd, limit + 1)
refused(errno.EFBIG, os.posix_fallocate, fd, 0, limit + 1)
refused(errno.EFBIG, os.truncate, guest + "/limited", limit + 1)
os.truncate(guest + "/limited", 10)
same("below it", 5, os.pwrite(fd, b"below", 0))
os.close(fd)
os.unlink(guest + "/limited")
s.end()

note("a server without descriptors")
s = Server("--nofile=128:128")
for i in range(300):
    put(f"{host}/f{i}", b"%d" % i)
fds = []
try:
    for i in range(300):
        fds.append(os.open(f"{guest}/f{i}", os.O_RDONLY))
except OSError as e:
    same("open", os.strerror(errno.ENFILE), os.strerror(e.errno))
check(20 < len(fds) < 128, f"{len(fds)} files were open")
refused(errno.ENFILE, os.open, f"{guest}/new", os.O_CREAT | os.O_WRONLY)
check(not os.path.exists(host + "/new"), "a file that was refused is there")
for i, fd in enumerate(fds):
    same("still read", b"%d" % i, os.read(fd, 10))
same("listed", 300, len(os.listdir(guest)))
same("looked up", 3, os.stat(guest + "/f299").st_size)
os.mkdir(guest + "/dir")
os.rename(guest + "/f299", guest + "/dir/f299")
for fd in fds:
    os.close(fd)
fds = []
for i in range(50):
    fd = os.open(f"{guest}/new{i}", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x")
    os.close(fd)
s.end()
if not loops:
    skip("no loop devices: tmpfs, the limits of files and of descriptors passed")
