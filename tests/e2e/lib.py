"""Helpers of the cases written in Python; the same as lib.sh has for bash.

    import os, sys; sys.path.insert(0, os.environ["VFS_E2E"]); from lib import *
"""

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import time

HOST = os.environ["VFS_HOST"]
MNT = os.environ["VFS_MNT"]
TMP = os.environ["VFS_TMP"]
BIN = os.environ["VFS_BIN"]
TRANSPORT = os.environ["VFS_TRANSPORT"]
SOURCE = os.environ["VFS_SOURCE"]
SLOW = float(os.environ.get("VFS_SLOW", "1"))
BIND = TRANSPORT == "bind"  # the runner's stand-in: no caching, none of our programs
# The cache that the runner's -o asked for; see lib.sh.
CACHE = (re.findall("(?<![a-z_])cache=[a-z]+", os.environ.get("VFS_OPTIONS", "")) or [""])[0]

# Appends so many lines to a file, a write(2) each: python3 -c APPENDER PATH LINES.
APPENDER = """
import os, sys
path, lines = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
for n in range(lines):
    line = b"%06d %s\\n" % (n, os.path.basename(path).encode())
    assert os.write(fd, line) == len(line)
os.close(fd)
"""


def fail(why):
    print(why, flush=True)
    sys.exit(1)


def skip(why):
    print(why, flush=True)
    sys.exit(77)


def check(truth, why):
    if not truth:
        fail(why)


def same(what, expected, found):
    check(expected == found, f"{what}: expected {expected!r}, found {found!r}")


def refused(code, call, *args, **more):
    """call(...) fails with this errno."""
    name = getattr(call, "__name__", call)
    try:
        call(*args, **more)
    except OSError as e:
        same(f"{name}{args!r}: errno", os.strerror(code), os.strerror(e.errno))
        return
    fail(f"{name}{args!r}: was to fail with '{os.strerror(code)}', and went through")


def wait_for(done, seconds, what):
    """Until done() is true; fails if it still is not when begun after so many seconds."""
    begun = time.monotonic()
    end = begun + seconds * SLOW
    while not done():
        check(begun < end, f"still not so after {seconds * SLOW:g} s: {what}")
        select.select([], [], [], 0.02)
        begun = time.monotonic()


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def receive(sock, n):
    """n bytes of a stream."""
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def bash(text, *args):
    """A line with the helpers of lib.sh; fails the case when it fails."""
    done = subprocess.run(["bash", "-c", f'. "$VFS_E2E/lib.sh"; {text}', "bash", *args], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout, end="")
        sys.exit(done.returncode)
    return done.stdout


def same_trees():
    bash("same_trees")


def mount_again(at, options=""):
    """The export of this case once more; the runner ends it if umount_vfs did not."""
    bash('mount_again "$1" "$2"', at, options)


def umount_vfs(at):
    bash('umount_vfs "$1"', at)


def counter(name, path=TMP + "/stats"):
    """A counter of a mount with stats=path. The file describes itself: names, then values."""
    data = get(path)
    check(data[:8] == b"VFSSTAT1", f"{path} is no statistics segment")
    count, offset = struct.unpack_from("=II", data, 8)
    for i in range(count):
        if data[16 + 192 * i:16 + 192 * i + 48].split(b"\0")[0] == name.encode():
            return struct.unpack_from("=Q", data, offset + 8 * i)[0]
    fail(f"{path} has no counter {name}")


def requests_sent():
    """Round trips so far of a case with '# options: stats=$VFS_TMP/stats'."""
    return 0 if BIND else counter("rpc.requests")


def fence(*mounts):
    """Whatever returned on the host before is visible in these mounts."""
    if not BIND and not CACHE:
        for mount in mounts:
            fd = os.open(mount, os.O_RDONLY)
            fcntl.ioctl(fd, 0x80085601, bytes(8))
            os.close(fd)
