#!/usr/bin/python3
# Sizes that change on the host under open files, mappings and appends of the guest: no NUL padding, no truncation, no
# mixed pages. A multi-page append of the guest after one of the host, with the invalidation applied and without; then
# host and two mounts append to one log, and every line is whole in every view all the while.
# timeout: 180
# options: stats=$VFS_TMP/stats
import mmap
import os
import random
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import CACHE, HOST, MNT, TMP, check, fail, fence, get, mount_again, same, umount_vfs, wait_for

PAGE = 4096
second = TMP + "/second"
mount_again(second)
rng = random.Random(3)
serial = 0


def text(n):
    """n bytes, none of them NUL, others than ever before."""
    global serial
    serial += 1
    word = b"%08d." % serial
    return (word * (n // len(word) + 1))[:n]


def size():
    """Near a page's edge as often as not."""
    return max(1, rng.choice((0, 1, 2, 3, 5, 20)) * PAGE + rng.choice((rng.randrange(PAGE), -1, 0, 1)))


def alike(what, expected, found):
    """Contents, told apart in a line."""
    if expected == found:
        return
    at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    fail(f"{what}: {len(expected)} bytes expected and {len(found)} found, the first other one at {at}: "
         f"{expected[at:at + 12]!r}, {found[at:at + 12]!r}")


class View:
    """One file of a mount, held open and mapped since before everything."""

    MOST = 64 * PAGE

    def __init__(self, at, name):
        self.path, self.fd = f"{at}/{name}", os.open(f"{at}/{name}", os.O_RDONLY)
        self.mapped = os.fstat(self.fd).st_size if CACHE != "cache=none" else 0  # a mapping asks nobody
        self.map = mmap.mmap(self.fd, self.mapped, mmap.MAP_SHARED, mmap.PROT_READ) if self.mapped else None

    def read(self):
        return os.pread(self.fd, self.MOST, 0)

    def show(self, what, expected, fresh=True):
        same(f"{what}: fstat", len(expected), os.fstat(self.fd).st_size)
        if self.map:
            alike(f"{what}: mapping", expected[:self.mapped], self.map[:len(expected)])
        alike(f"{what}: open file", expected, self.read())
        if fresh:
            same(f"{what}: stat", len(expected), os.stat(self.path).st_size)
            alike(f"{what}: opened anew", expected, get(self.path))

    def close(self):
        if self.map:
            self.map.close()
        os.close(self.fd)


def on_host(name, content):
    """One change on the host; what the file has then."""
    path = f"{HOST}/{name}"
    how = rng.randrange(5)
    if how == 0:
        n = min(rng.randrange(len(content) + 1) if content else 0, View.MOST)
        os.truncate(path, n)
        return content[:n]
    with open(path, "r+b") as f:
        if how == 1 and content:  # in the middle, within the size
            at = rng.randrange(len(content))
            more = text(min(size(), len(content) - at))
            os.pwrite(f.fileno(), more, at)
            return content[:at] + more + content[at + len(more):]
        if how == 2:
            f.truncate(0)
            content = b""
        more = text(size())
        os.pwrite(f.fileno(), more, len(content))
        return content + more


print("# the host truncates, appends and overwrites under open files and mappings")
# The mapping reaches as far as the file ever will.
with open(HOST + "/file", "wb") as f:
    f.write(text(View.MOST))
fence(MNT, second)
views = [View(MNT, "file"), View(second, "file")]
content = get(HOST + "/file")
for n in range(300):
    for v in views:
        v.show(f"round {n}, before", content, fresh=n % 2 == 0)
    for _ in range(rng.randrange(1, 4)):
        content = on_host("file", content)
        if len(content) > View.MOST // 2:
            os.truncate(HOST + "/file", PAGE + 10)
            content = content[:PAGE + 10]
    fence(MNT, second)
    for v in views:
        v.show(f"round {n}", content)

print("# it replaces the file: what is open stays what it was, the name is the new one")
for n in range(50):
    new = text(size())
    with open(HOST + "/tmp", "wb") as f:
        f.write(new)
    os.rename(HOST + "/tmp", HOST + "/file")
    fence(MNT, second)
    for v in views:
        v.show(f"replaced {n}", content, fresh=False)
        alike(f"replaced {n}: the name", new, get(v.path))
        same(f"replaced {n}: size of the name", len(new), os.stat(v.path).st_size)
        v.close()
    content = new
    views = [View(MNT, "file"), View(second, "file")]
for v in views:
    v.close()

print("# multi-page appends of the guest after the host's, fenced and not")
for n in range(200):
    name = f"append{n % 7}"
    if n < 7:
        with open(f"{HOST}/{name}", "wb") as f:
            f.write(text(View.MOST))
        os.truncate(f"{HOST}/{name}", 100)
        fence(MNT, second)
    view = View(second, name)
    content = get(f"{HOST}/{name}")
    if len(content) > View.MOST // 3:
        os.truncate(f"{HOST}/{name}", 77)
        content = content[:77]
        fence(MNT, second)
    reading = os.open(f"{MNT}/{name}", os.O_RDONLY)
    appending = os.open(f"{MNT}/{name}", os.O_WRONLY | os.O_APPEND)
    if n % 3:
        alike(f"append {n}: read before", content, os.pread(reading, View.MOST, 0))
        view.show(f"append {n}: the other mount before", content)
    for turn in range(3):
        more = text(rng.randrange(1, 3000))
        with open(f"{HOST}/{name}", "ab", buffering=0) as f:
            f.write(more)
        if n % 2:
            fence(MNT, second)
        own = text(rng.randrange(2, 5) * PAGE + rng.randrange(PAGE))
        same(f"append {n}: written", len(own), os.write(appending, own))
        content += more + own
        alike(f"append {n}.{turn}: on the host", content, get(f"{HOST}/{name}"))
        # What one's own append showed (it lies behind the host's) is seen at once.
        same(f"append {n}.{turn}: fstat", len(content), os.fstat(appending).st_size)
        alike(f"append {n}.{turn}: own end", own, os.pread(reading, View.MOST, len(content) - len(own)))
    fence(MNT, second)
    alike(f"append {n}: in the mount", content, os.pread(reading, View.MOST, 0))
    view.show(f"append {n}: in the other mount", content)
    os.close(appending)
    os.close(reading)
    view.close()

print("# one log, appended to everywhere and read everywhere meanwhile")
LINES = 1500
FILE = "log"
WRITERS = {b"a": HOST, b"b": MNT, b"c": second, b"d": MNT}
open(f"{HOST}/{FILE}", "xb").close()
fence(MNT, second)
wait_for(lambda: os.path.exists(f"{MNT}/{FILE}") and os.path.exists(f"{second}/{FILE}"), 5, "the log is seen")


def child(run):
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        run()
        sys.stdout.flush()
        os._exit(0)
    except (OSError, ValueError) as e:
        print(e, flush=True)
    finally:
        os._exit(1)


def line_of(name, i):
    return b"%s %d " % (name, i) + bytes([97 + i % 26]) * (1 + i * 379 % 3000) + b" end\n"


def append(name, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for i in range(LINES):
        if os.write(fd, line_of(name, i)) != len(line_of(name, i)):
            raise ValueError(f"{name}: short write")


class Log:
    """What was read of it so far: every line whole, but for one that is still to come, and each writer's in order."""

    def __init__(self, where):
        self.where, self.seen, self.line, self.following = where, b"", 0, dict.fromkeys(WRITERS, 0)

    def add(self, more):
        if b"\0" in more:
            raise ValueError(f"{self.where}: NUL at {len(self.seen) + more.index(0)} of {len(self.seen) + len(more)}")
        self.seen += more
        while (end := self.seen.find(b"\n", self.line) + 1) > 0:
            name = self.seen[self.line:self.line + 1]
            if name not in WRITERS or self.seen[self.line:end] != line_of(name, self.following[name]):
                raise ValueError(f"{self.where}: at {self.line} of {len(self.seen)} bytes: "
                                 f"{self.seen[self.line:self.line + 40]!r}")
            self.following[name] += 1
            self.line = end

    def compare(self, everything):
        """The same bytes, and perhaps more."""
        n = min(len(everything), len(self.seen))
        if everything[:n] != self.seen[:n]:
            raise ValueError(f"{self.where}: what was read before has changed")


def look(where, path, done):
    """Follows it while it grows; now and then reads all of it through a new open."""
    fd, log, reads, last = os.open(path, os.O_RDONLY), Log(where), 0, False
    while not last:
        last = os.path.exists(done)
        log.add(os.pread(fd, 1 << 24, len(log.seen)))
        if reads % 32 == 0 or last:
            log.compare(get(path))
        reads += 1
    print(f"# {where}: {reads} reads, {len(log.seen)} bytes", flush=True)


writers = [child(lambda n=n, p=p: append(n, f"{p}/{FILE}")) for n, p in WRITERS.items()]
# A reader that was there before the file was opened for appending in its own mount shares the kernel's pages.
wait_for(lambda: all(b"%s 0 " % n in get(f"{HOST}/{FILE}") for n in WRITERS), 20, "every writer has begun")
readers = [child(lambda w=w, p=p: look(w, f"{p}/{FILE}", TMP + "/done"))
           for w, p in (("host", HOST), ("mount", MNT), ("second mount", second))]
failed = [p for p in writers if os.waitpid(p, 0)[1]]
open(TMP + "/done", "xb").close()
failed += [p for p in readers if os.waitpid(p, 0)[1]]
check(not failed, "a writer or a reader of the log failed")
data = get(f"{HOST}/{FILE}")
at_end = Log("at the end")
at_end.add(data)
same("lines of each", dict.fromkeys(WRITERS, LINES), at_end.following)
fence(MNT, second)
alike("the log in the mount", data, get(f"{MNT}/{FILE}"))
alike("the log in the second mount", data, get(f"{second}/{FILE}"))
umount_vfs(second)
