#!/usr/bin/python3
# How many requests and round trips things take, so that a regression shows without a clock. What is warm takes none.
# timeout: 120
# mounts: unix
# options: stats=$VFS_TMP/stats
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, check, counter, fence, same, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    print("a bind mount counts nothing")
    sys.exit(77)
MANY = 2000  # files: more than the 1024 open ones that are kept over a server that grants none


def trips(what, work, most, least=0):
    """Runs work and counts the round trips that the mount makes meanwhile; how many there were."""
    settle()
    before = counter("rpc.requests") - counter("rpc.own")
    work()
    settle()
    made = counter("rpc.requests") - counter("rpc.own") - before
    print(f"# {what}: {made} round trips", flush=True)
    check(least <= made <= most, f"{what}: {made} round trips, at least {least} and at most {most} were expected")
    return made


def settle():
    """RELEASE and FORGET come after the call that caused them: until the count stands still."""
    last = [-1, 0]

    def quiet():
        now = counter("fuse.requests") + counter("rpc.requests") + counter("fuse.pending")
        last[:] = [now, last[1] + 1 if now == last[0] else 0]
        return last[1] >= 3
    wait_for(quiet, 10, "the mount is quiet")


def read_all(at, count):
    for i in range(count):
        with open(f"{at}/f{i}", "rb") as f:
            same("content", b"%d" % i, f.read())


def make(name, count):
    os.mkdir(f"{HOST}/{name}")
    for i in range(count):
        with open(f"{HOST}/{name}/f{i}", "wb") as f:
            f.write(b"%d" % i)
    fence(MNT)


def many_files():
    """More files than were once kept open are opened again without the host."""
    make("many", MANY)
    os.listdir(f"{MNT}/many")
    trips(f"{MANY} files read for the first time", lambda: read_all(f"{MNT}/many", MANY), 3 * MANY, MANY)
    trips(f"{MANY} files read again", lambda: read_all(f"{MNT}/many", MANY), 0)


many_files()
