#!/usr/bin/python3
# How many requests and round trips things take, so that a regression shows without a clock. What is warm takes none.
# timeout: 120
# mounts: unix
# options: stats=$VFS_TMP/stats
import ctypes
import json
import mmap
import os
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, MNT, TMP, bash, check, counter, fence, same, umount_vfs, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    print("a bind mount counts nothing")
    sys.exit(77)
LIBC = ctypes.CDLL(None, use_errno=True)
MANY = 2000  # files: more than the 1024 open ones that are kept over a server that grants none


def trips(what, work, most, least=0):
    """
    Runs work and counts the round trips that the mount makes meanwhile; how many there were. What is warm takes one for
    each page that the kernel has let go, which work returns.
    """
    settle()
    before = figures()
    without = work() or 0
    settle()
    after = figures()
    made = asked(after) - asked(before)
    if most == 0:
        check(without < 40, f"{what}: {without} pages have gone")
        made -= without
    by = " ".join(f"{name.split('.')[2]} {n - before.get(name, 0)}" for name, n in after.items()
                  if name.startswith("rpc.op.") and name.endswith(".count") and n != before.get(name, 0))
    print(f"# {what}: {made} round trips ({by})", flush=True)
    check(least <= made <= most, f"{what}: {made} round trips, at least {least} and at most {most} were expected")
    return made


def figures():
    return json.loads(subprocess.run([BIN + "/vfsstat", "--json", f"{TMP}/stats"], stdin=subprocess.DEVNULL, check=True,
                                     stdout=subprocess.PIPE).stdout)


def asked(figures):
    """Round trips that somebody waited for: not the client's own looks at the sizes of open files."""
    return figures["rpc.requests"] - figures["rpc.own"]


def settle():
    """RELEASE and FORGET come after the call that caused them: until the count stands still."""
    last = [-1, 0]

    def quiet():
        now = counter("fuse.requests") + counter("rpc.requests") + counter("fuse.pending")
        last[:] = [now, last[1] + 1 if now == last[0] else 0]
        return last[1] >= 3
    wait_for(quiet, 10, "the mount is quiet")


def has_page(f):
    """Whether the kernel has the file's first page: on a busy machine it lets some go by itself."""
    with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as m:
        resident, address = (ctypes.c_ubyte * 1)(), ctypes.addressof(ctypes.c_ubyte.from_buffer(m))
        same("mincore", 0, LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(1), resident))
        return resident[0] & 1 == 1


def read_all(at, count):
    """How many of them the kernel had no page of."""
    without = 0
    for i in range(count):
        with open(f"{at}/f{i}", "rb", buffering=0) as f:
            without += not has_page(f)
            same("content", b"%d" % i, f.read())
    return without


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
    trips(f"{MANY} files read for the first time", lambda: read_all(f"{MNT}/many", MANY), MANY + 10, MANY)
    trips(f"{MANY} files read again", lambda: read_all(f"{MNT}/many", MANY), 0)


def small_files():
    """The content of a small file comes with OPEN: one round trip each; not of a large one, nor for who only opens."""
    make("small", 200)
    with open(f"{HOST}/small/large", "wb") as f:
        f.write(bytes(100_000))
    fence(MNT)
    os.listdir(f"{MNT}/small")
    trips("200 small files of a listed directory, cold", lambda: read_all(f"{MNT}/small", 200), 200 + 4, 200)
    trips("a file of 100,000 bytes", lambda: same("bytes", 100_000, len(open(f"{MNT}/small/large", "rb").read())), 3, 2)
    with open(f"{HOST}/small/f7", "wb") as f:
        f.write(b"longer than before")
    fence(MNT)
    with open(f"{MNT}/small/f7", "rb") as f:
        same("what the host has made of it", b"longer than before", f.read())


def changes():
    """In a directory whose names are known a change is one round trip, and nothing is asked before or after it."""
    os.mkdir(f"{HOST}/changes")
    fence(MNT)
    at = f"{MNT}/changes"
    os.listdir(at)

    def create(i):
        os.close(os.open(f"{at}/f{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))

    def write(i):
        with open(f"{at}/w{i}", "wb") as f:
            f.write(b"x" * 1000)
    count = 40
    steps = (("create and close", create, 1), ("create, write and close", write, 2),
             ("mkdir", lambda i: os.mkdir(f"{at}/d{i}"), 1),
             ("symlink", lambda i: os.symlink("x", f"{at}/s{i}"), 1),
             ("rename", lambda i: os.rename(f"{at}/f{i}", f"{at}/g{i}"), 1),
             ("rename over another", lambda i: os.rename(f"{at}/g{i}", f"{at}/w{i}"), 1),
             ("chmod", lambda i: os.chmod(f"{at}/w{i}", 0o600), 1),
             ("rmdir", lambda i: os.rmdir(f"{at}/d{i}"), 1),
             ("unlink", lambda i: os.unlink(f"{at}/w{i}"), 1))
    for what, step, each in steps:
        trips(f"{count} x {what}", lambda step=step: [step(i) for i in range(count)], count * each + 2, count * each)


def scattered():
    """Look-ups in directories that nobody has listed: one of them, and one listing for all the others, absent names too."""
    for d in range(20):
        os.makedirs(f"{HOST}/scattered/d{d}")
        for i in range(30):
            open(f"{HOST}/scattered/d{d}/f{i}", "wb").close()
    fence(MNT)
    at = f"{MNT}/scattered"

    def stat_all():
        for i in range(60):  # from one directory to the next, as who looks for headers does
            for d in range(20):
                same("is there", i < 30, os.path.exists(f"{at}/d{d}/f{i}"))
    # scattered itself and each of its directories are looked up, too; the second miss there is a listing as well
    trips("1,200 names in 20 directories, cold", stat_all, 2 * 20 + 4, 2 * 20)
    trips("the same, warm", stat_all, 0)
    settle()


def scattered_once_more(options, least, most):
    """Where it does not pay, or may not be, each name is asked for by itself."""
    at = f"{TMP}/again"
    os.makedirs(at, exist_ok=True)
    bash('mount_vfs "$1" "$2" "$3"', os.environ["VFS_SOURCE"], at, f"{options},stats={TMP}/again.stats")
    for i in range(10):
        os.path.exists(f"{at}/scattered/d0/f{i}")
    made, ahead = (counter(name, f"{TMP}/again.stats") for name in ("rpc.requests", "cache.listings_ahead"))
    print(f"# {options}: {made} round trips, {ahead} listings", flush=True)
    check(least <= made <= most, f"{options}: {made} round trips")
    check((ahead > 0) == (most < 10), f"{options}: {ahead} directories were listed")
    umount_vfs(at)


def huge():
    """Two names in a large directory do not fetch it."""
    os.mkdir(f"{HOST}/huge")
    for i in range(20000):
        os.mknod(f"{HOST}/huge/f{i:05}")
    if os.stat(f"{HOST}/huge").st_size < 100000:
        print("# the size of a directory says nothing here", flush=True)
        return
    fence(MNT)
    bytes_before, ahead = counter("rpc.bytes_received"), counter("cache.listings_ahead")
    trips("two names in a large directory", lambda: [os.stat(f"{MNT}/huge/f{i:05}") for i in (7, 19999)], 3, 2)
    same("listings fetched ahead", 0, counter("cache.listings_ahead") - ahead)
    check(counter("rpc.bytes_received") - bytes_before < 2000, "little was fetched")


many_files()
small_files()
changes()
scattered()
scattered_once_more("cache=lease", 3, 6)
scattered_once_more("list_after=0", 10, 14)
scattered_once_more("cache=ttl", 10, 14)
huge()
