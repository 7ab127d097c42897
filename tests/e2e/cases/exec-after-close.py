#!/usr/bin/env python3
# The host may execute what the guest has just closed: the descriptor for writing is given up by then, and taken back.
# timeout: 180
# options: stats=$VFS_TMP/stats
# as: root user mapped
import errno
import mmap
import os
import sys
import threading

sys.path.insert(0, os.environ["VFS_E2E"])
from lib import *

PROGRAM = get("/bin/true")
N = 25


def run_on_host(name):
    """False where the host's kernel says that it is being written (ETXTBSY)."""
    try:
        status = os.waitpid(os.posix_spawn(f"{HOST}/{name}", ["true"], {}), 0)[1]
    except OSError as e:
        if e.errno == errno.ETXTBSY:
            return False
        raise
    same(f"exit status of {name}", 0, status)
    return True


def written(fd):
    os.write(fd, PROGRAM[:1000])
    os.write(fd, PROGRAM[1000:])


def made_executable(at, name):
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_WRONLY, 0o755)
    written(fd)
    os.close(fd)


def written_again(at, name):
    made_executable(at, name)
    fd = os.open(f"{at}/{name}", os.O_RDWR | os.O_TRUNC)
    written(fd)
    os.close(fd)


def become_so_before_close(at, name):
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_WRONLY, 0o644)
    written(fd)
    os.fchmod(fd, 0o755)
    os.close(fd)


def become_so_after_close(at, name):  # as ld does
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_WRONLY, 0o644)
    written(fd)
    os.close(fd)
    os.chmod(f"{at}/{name}", 0o755)


def copied_on_the_host(at, name):  # as cp does
    source = os.open(f"{at}/source", os.O_RDONLY)
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_WRONLY, 0o755)
    done = 0
    while done < len(PROGRAM):
        done += os.copy_file_range(source, fd, len(PROGRAM) - done)
    os.close(fd)
    os.close(source)


def grown_and_mapped(at, name):  # as linkers do
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_RDWR, 0o755)
    os.ftruncate(fd, len(PROGRAM))
    with mmap.mmap(fd, len(PROGRAM)) as m:
        m[:] = PROGRAM
    os.close(fd)


def closed_twice(at, name):
    fd = os.open(f"{at}/{name}", os.O_CREAT | os.O_WRONLY, 0o755)
    copy = os.dup(fd)
    os.write(fd, PROGRAM[:1000])
    os.close(fd)
    os.write(copy, PROGRAM[1000:])
    os.close(copy)


def what_was_closed_executes(at):
    put(f"{at}/source", PROGRAM)
    for way in (made_executable, written_again, become_so_before_close, become_so_after_close, copied_on_the_host,
                grown_and_mapped, closed_twice):
        busy = 0
        for i in range(N):
            name = f"{way.__name__}-{i}"
            way(at, name)
            busy += not run_on_host(name)
            os.unlink(f"{at}/{name}")
        same(f"{way.__name__} in {at}: ETXTBSY in {N}", 0, busy)
    os.unlink(f"{at}/source")


def what_is_open_goes_on(at):
    """The last close cannot be told: a duplicate, a mapping, other threads write on afterwards."""
    path = f"{at}/goes-on"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o755)
    os.ftruncate(fd, 8192)
    m = mmap.mmap(fd, 8192)
    os.close(os.dup(fd))
    m[:4] = b"mmap"
    m.flush()
    same("through a mapping, on the host", b"mmap", get(f"{HOST}/goes-on")[:4])
    os.close(os.dup(fd))
    os.pwrite(fd, b"pwrite", 8)
    os.close(os.dup(fd))
    os.ftruncate(fd, 100)
    same("size on the host", 100, os.stat(f"{HOST}/goes-on").st_size)
    os.close(os.dup(fd))
    os.fsync(fd)
    same("read", b"pwrite", os.pread(fd, 6, 8))
    same("on the host", b"pwrite", get(f"{HOST}/goes-on")[8:14])
    m.close()
    os.close(fd)

    def write_on(copy, part):
        for k in range(200):
            os.pwrite(copy, bytes([part]) * 64, (part * 200 + k) * 64)

    fd = os.open(path, os.O_RDWR)
    copies = [os.dup(fd) for _ in range(4)]
    writers = [threading.Thread(target=write_on, args=(copy, part)) for part, copy in enumerate(copies)]
    for t in writers:
        t.start()
    while any(t.is_alive() for t in writers):
        os.close(os.dup(fd))
    for t in writers:
        t.join()
    for copy in copies:
        os.close(copy)
    same("written beside closes", b"".join(bytes([p]) * 64 * 200 for p in range(4)), get(f"{HOST}/goes-on")[:4 * 64 * 200])
    os.close(fd)
    os.unlink(path)


def what_cannot_be_opened_again(at):
    """A server that is nobody special cannot open a file anew that its mode protects: then it is kept as it is."""
    for how in ("ftruncate", "fchmod", "futimens", "close", "fchmod after close"):
        path = f"{at}/protected"
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o755 if how == "fchmod after close" else 0o555)
        os.write(fd, b"one")
        if how == "ftruncate":
            os.ftruncate(fd, 3)
        elif how == "fchmod":
            os.fchmod(fd, 0o511)
        elif how == "futimens":
            os.utime(fd)
        else:
            os.close(os.dup(fd))
        if how == "fchmod after close":
            os.fchmod(fd, 0o555)
        same(f"written after {how}", 3, os.write(fd, b"two"))
        same(f"on the host after {how}", b"onetwo", get(f"{HOST}/protected"))
        os.close(fd)
        os.unlink(path)


def counts(at):
    """close(2) asks the host where it could have kept a program from executing, and nowhere else."""
    for mode, want in ((0o644, 0), (0o755, 1)):
        fd = os.open(f"{at}/counted", os.O_CREAT | os.O_WRONLY, mode)
        os.write(fd, b"x")
        before = counter("rpc.requests")
        os.close(fd)
        same(f"round trips of close(2), mode {mode:o}", want, counter("rpc.requests") - before)
        fd = os.open(f"{at}/counted", os.O_RDONLY)
        before = counter("rpc.requests")
        os.close(fd)
        same("and of a reader's", before, counter("rpc.requests"))
        os.unlink(f"{at}/counted")


for step in (what_was_closed_executes, what_is_open_goes_on, what_cannot_be_opened_again):
    step(MNT)
BIND or counts(MNT)
if not BIND and not CACHE:
    for option in ("no_open", "locks=local"):
        other = f"{TMP}/other"
        if os.environ["VFS_AS"] == "mapped":
            option += ",uid=0,gid=0"
        mount_again(other, option)
        for step in (what_was_closed_executes, what_is_open_goes_on, what_cannot_be_opened_again):
            step(other)
        umount_vfs(other)
