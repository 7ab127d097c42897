#!/usr/bin/python3
# A task has changed a file's attributes, or linked it, and sends no further request, so that none shows that the kernel
# has taken the size of that reply. The host changes the size: whoever asks after a fence, or under a lock, is told it.
# timeout: 60
import fcntl
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, check, fence, put, same


def quiet(change):
    """A task that makes the change and waits for its end; what ends it."""
    ready, end = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end[1])
        change()
        os.write(ready[1], b".")
        os.read(end[0], 1)
        os._exit(0)
    os.close(ready[1])
    os.close(end[0])
    check(os.read(ready[0], 1) == b".", "the change has been made")
    os.close(ready[0])

    def done():
        os.close(end[1])
        os.waitpid(pid, 0)
    return done


CHANGES = {
    "chmod": lambda path: os.chmod(path, 0o600),
    "utimensat": lambda path: os.utime(path, (1, 1)),
    "truncate": lambda path: os.truncate(path, 5000),
    "link": lambda path: os.link(path, path + "~"),
}
put(f"{HOST}/lock", b"")
with open(f"{MNT}/lock", "r+b") as lock:
    for what, change in CHANGES.items():
        for way in "fence", "lock":
            for size in 2000, 9000:
                name = f"{what}-{way}-{size}"
                put(f"{HOST}/{name}", b"x" * 5000)
                fence(MNT)
                same(name, 5000, os.stat(f"{MNT}/{name}").st_size)
                done = quiet(lambda: change(f"{MNT}/{name}"))
                os.truncate(f"{HOST}/{name}", size)
                if way == "fence":
                    fence(MNT)
                else:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                same(name, size, os.stat(f"{MNT}/{name}").st_size)
                fcntl.flock(lock, fcntl.LOCK_UN)
                done()
