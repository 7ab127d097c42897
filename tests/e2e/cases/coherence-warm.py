#!/usr/bin/python3
# On a warm mount, a second find, git status, ls -lR, reading, and look for absent names make no round trip to the host,
# and stat and look-ups not even a request of the kernel.
# timeout: 240
# mounts: none
# needs: git
import json
import os
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, CACHE, HOST, TMP, bash, check, counter, same, umount_vfs, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    print("a bind mount counts nothing")
    sys.exit(77)
DIRS, FILES, ABSENT = 500, 20, 1000


def make():
    """Sources of other days: git takes nothing for as young as its index."""
    for d in range(DIRS):
        at = f"{HOST}/tree/d{d // 25}/s{d % 25}"
        os.makedirs(at)
        for f in range(FILES):
            path = f"{at}/file{f}.c"
            with open(path, "w", encoding="ascii") as out:
                out.write(f"int f{d}_{f}(void)\n{{\n\treturn {d * f};\n}}\n")
            os.utime(path, ns=(1_600_000_000_000_000_000 + d, 1_600_000_000_123_456_789 + f))
    git("init", "-q", at=f"{HOST}/tree")
    git("add", ".", at=f"{HOST}/tree")
    git("-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-qm", "all", at=f"{HOST}/tree")
    same("status on the host", b"", git("status", "--porcelain", at=f"{HOST}/tree"))


def run(argv, at):
    return subprocess.run(argv, cwd=at, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout


def git(*args, at):
    return run(["git", *args], at)


def absent(at):
    """Names in directories that are there, and one directory that is not."""
    found = 0
    for i in range(ABSENT):
        found += os.path.lexists(f"{at}/d{i % 20}/s{i % 25}/absent{i}.h" if i % 5 else f"{at}/absent/dir/x{i}")
    same("absent names that are there", 0, found)
    return b""


def stat_all(at):
    """Each file by its path."""
    for d in range(DIRS):
        for f in range(FILES):
            os.stat(f"{at}/d{d // 25}/s{d % 25}/file{f}.c")
    return b""


def read_some(at):
    return b"".join(open(f"{at}/d{d // 25}/s{d % 25}/file{d % FILES}.c", "rb").read() for d in range(0, DIRS, 5))


# What is done twice, and how many requests of the kernel the second may make: what opens a directory, reads its listing
# or asks for its times after that, or opens a file. The daemon answers them itself. None of them for stat and look-ups.
N_DIRS = DIRS + DIRS // 25 + 1
STEPS = {
    "stat of every file": (stat_all, 0),
    "stat of absent names": (absent, 0),
    "find -printf": (lambda at: run(["find", ".", "-path", "./.git", "-prune", "-o", "-printf", "%s %T@\n"], at),
                     5 * N_DIRS),
    "ls -lR": (lambda at: run(["ls", "-lR", "--time-style=full-iso"], at), 5 * N_DIRS),
    # open, fstat after its atime moved, isatty (an ioctl), close
    "reading": (read_some, 5 * DIRS // 5),
    # Without the lock that it takes to write an index which it has nothing to write to: that is a create and an unlink.
    "git status": (lambda at: git("--no-optional-locks", "status", "--porcelain", at=at), 6 * N_DIRS),
}


def settle(stats):
    """RELEASE and FORGET come after the call that caused them: until the count stands still."""
    last = [-1, 0]

    def quiet():
        now = counter("fuse.requests", stats) + counter("rpc.requests", stats)
        last[:] = [now, last[1] + 1 if now == last[0] else 0]
        return last[1] >= 5
    wait_for(quiet, 10, "the mount is quiet")


def figures_now(stats):
    every = json.loads(run([BIN + "/vfsstat", "--json", stats], TMP))
    return [every.get(name, 0) for name in ("rpc.requests", "fuse.requests", "rpc.op.READ.count")]


def counted(step, at, stats):
    settle(stats)
    before = figures_now(stats)
    out = step(at)
    settle(stats)
    return out, *(now - then for now, then in zip(figures_now(stats), before))


def again(step, at, stats):
    """Once more; and again where all it asked the host for was pages: what memory the kernel takes back, it reads."""
    for _ in range(5):
        second = counted(step, at, stats)
        if second[1] == 0 or second[1] != second[3]:
            break
        print(f"# {second[1]} round trips are READs of pages that the kernel has let go", flush=True)
    return second


def measure(source, options, steps):
    """{step: (round trips, requests)} of each second time."""
    mnt, stats, figures = TMP + "/mnt", TMP + "/stats", {}
    os.makedirs(mnt, exist_ok=True)
    bash('mount_vfs "$1" "$2" "$3"', source, mnt, ",".join(filter(None, (options, f"stats={stats}"))))
    for name in steps:
        step = STEPS[name][0]
        first = counted(step, mnt + "/tree", stats)
        second = again(step, mnt + "/tree", stats)
        same(f"{name}: output the second time", first[0], second[0])
        figures[name] = second[1:3]
        print(f"# {name}: first {first[1]} round trips, {first[2]} requests; second {second[1]}, {second[2]}", flush=True)
        if name.startswith("git"):
            same("git status", b"", second[0])
    every = ["find", "tree", "-printf", "%P %s %T@\n"]
    same("find on the host and in the mount", sorted(run(every, HOST).splitlines()), sorted(run(every, mnt).splitlines()))
    umount_vfs(mnt)
    return figures


make()
sources = [f"dir:{HOST}"]
server = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{TMP}/s", f"--pidfile={TMP}/s.pid", HOST],
                          stdin=subprocess.DEVNULL)
try:
    wait_for(lambda: os.path.exists(TMP + "/s.pid") and os.path.getsize(TMP + "/s.pid"), 10, "the server listens")
    sources.append(f"unix:{TMP}/s")
    print("# the negative: where nothing is kept, the same counts many")
    some = ("stat of absent names", "find -printf", "reading")
    for name, (trips, requests) in measure(sources[1], "cache=none", some).items():
        check(trips >= ABSENT // 5 and requests >= ABSENT // 5,
              f"{name} with cache=none: {trips} round trips, {requests} requests")
    for source in sources:
        print(f"# {source}")
        wrong = [f"{name}: {trips} round trips, {requests} requests, at most {STEPS[name][1]} expected"
                 for name, (trips, requests) in measure(source, CACHE, STEPS).items()
                 if trips > 0 or requests > STEPS[name][1]]
        check(not wrong, "; ".join(wrong))
finally:
    server.terminate()
    server.wait()
