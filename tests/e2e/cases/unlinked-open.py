#!/usr/bin/python3
# Files and directories removed while they are open stay usable, without a trace in the directory.
# timeout: 60
# as: root user
import errno
import mmap
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, check, get, put, refused, same, wait_for

os.chdir(MNT)


def use(fd, what):
    """Everything one does with an open file, on one that has no name any more."""
    same(f"{what}: links", 0, os.fstat(fd).st_nlink)
    same(f"{what}: content", b"0123456789", os.pread(fd, 100, 0))
    os.pwrite(fd, b"AB", 4)
    same(f"{what}: after a write", b"0123AB6789", os.pread(fd, 100, 0))
    os.ftruncate(fd, 6)
    same(f"{what}: after a truncate", (b"0123AB", 6), (os.pread(fd, 100, 0), os.fstat(fd).st_size))
    os.ftruncate(fd, 3 << 20)
    os.pwrite(fd, b"end", (3 << 20) - 3)
    same(f"{what}: across a hole", b"\0\0\0end", os.pread(fd, 100, (3 << 20) - 6))
    os.fchmod(fd, 0o604)
    same(f"{what}: mode", 0o604, os.fstat(fd).st_mode & 0o7777)
    os.utime(fd, ns=(10**18 + 1, 10**18 + 2))
    same(f"{what}: mtime", 10**18 + 2, os.fstat(fd).st_mtime_ns)
    with mmap.mmap(fd, 4096) as m:
        same(f"{what}: mapped", b"0123AB", m[:6])
        m[0:4] = b"mmap"
        m.flush()
    same(f"{what}: after a store", b"mmapAB", os.pread(fd, 6, 0))
    os.fsync(fd)


def made(name):
    put(name, b"0123456789")
    return os.open(name, os.O_RDWR)


fd = made("by-guest")
os.unlink("by-guest")
same("what is left of it in the mount", [], os.listdir("."))
same("what is left of it on the host", [], os.listdir(HOST))
refused(errno.ENOENT, os.stat, "by-guest")
use(fd, "removed by the guest")

fd2 = made("replaced")
put("other", b"other")
os.rename("other", "replaced")
use(fd2, "renamed over")
same("the new file", b"other", get("replaced"))
os.unlink("replaced")

fd3 = made("by-host")
os.unlink(HOST + "/by-host")
wait_for(lambda: not os.path.exists("by-host"), 5, "the host's unlink is seen")
wait_for(lambda: os.fstat(fd3).st_nlink == 0, 5, "the host's unlink is seen in nlink")
use(fd3, "removed by the host")

fd4 = os.open("made-here", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.unlink("made-here")
os.write(fd4, b"0123456789")
use(fd4, "removed right after it was made")

# A second name keeps the file; a new file under the old name is another one.
fd5 = made("first")
os.link("first", "second")
os.unlink("first")
same("links with a second name", 1, os.fstat(fd5).st_nlink)
put("first", b"new")
os.pwrite(fd5, b"X", 0)
same("new file under the old name", b"new", get("first"))
same("the old one under its second name", b"X123456789", get("second"))
check(os.stat("first").st_ino != os.fstat(fd5).st_ino, "two files share an inode number")

# Through another descriptor of the same process.
again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
same("opened again through /proc/self/fd", b"mmapAB", os.pread(again, 6, 0))

# Directories.
os.mkdir("directory")
d = os.open("directory", os.O_RDONLY | os.O_DIRECTORY)
os.rmdir("directory")
same("listing of a removed directory", [], os.listdir(d))
refused(errno.ENOENT, os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=d)
refused(errno.ENOENT, os.mkdir, "new", dir_fd=d)

for f in (fd, fd2, fd3, fd4, fd5, again, d):
    os.close(f)
same("left on the host", ["first", "second"], sorted(os.listdir(HOST)))
