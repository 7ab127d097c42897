#!/usr/bin/python3
# vfsstat: every figure moves by what it counts, agrees with an independent count, and is to be had while the daemon or
# the server is stopped.
# timeout: 240
# mounts: none
import fcntl
import glob
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, MNT, SLOW, TMP, check, fail, same, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    print("the stand-in counts nothing")
    sys.exit(77)

VFSSTAT = BIN + "/vfsstat"
TOP = os.environ["VFS_TOP"]
SERVED, PROXIED, SECOND = TMP + "/served", TMP + "/proxied", TMP + "/second"
FILES = 3000


def note(text):
    print("# " + text, flush=True)


def start(*argv, ready=None, **more):
    child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, **more)
    if ready:
        wait_for(lambda: child.poll() is None and ready(), 20, f"{argv[0]} is ready")
    return child


def vfsstat(*args, code=0, **env):
    """Its output; it must end at once, with this code."""
    done = subprocess.run([VFSSTAT, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, **env}, timeout=60 * SLOW, check=False)
    if done.returncode != code:
        fail(f"vfsstat {args}: exit code {done.returncode}, not {code}: {done.stdout}{done.stderr}")
    return done.stdout + (done.stderr if code else "")


def figures(at=MNT):
    return json.loads(vfsstat("--json", at))


def mounted(at):
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return any(line.split()[4] == at for line in table)


def mount(source, at, *options):
    """Each look-up asks the host: list_after=0."""
    os.makedirs(at, exist_ok=True)
    child = start(BIN + "/vsockfs", "-f", source, at, "-o", ",".join(("list_after=0", *options)),
                  ready=lambda: mounted(at))
    os.stat(at)
    return child


def unmount(child, at):
    subprocess.run(["umount", at], check=True)
    same("exit code of the daemon", 0, child.wait(timeout=60 * SLOW))


def touch(path, size=0):
    with open(path, "wb") as f:
        f.write(os.urandom(size))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def missing(path):
    check(not os.path.lexists(path), path + " is there")


# ---------------------------------------------------------------------------------------------- the cast

os.makedirs(HOST + "/many")
for n in range(FILES):
    touch(f"{HOST}/many/file{n}")
touch(HOST + "/big", 5_000_001)
server = start(BIN + "/vsockfsd", "--listen", "unix:" + SERVED, "--pidfile=" + TMP + "/server.pid", HOST,
               ready=lambda: os.path.exists(TMP + "/server.pid") and os.path.getsize(TMP + "/server.pid"))
proxy = start(TOP + "/tests/support/counting_proxy.py", "--listen", PROXIED, "--connect", SERVED, "--log",
              TMP + "/proxy.json", stdout=subprocess.PIPE, text=True)
same("the proxy says", "ready\n", proxy.stdout.readline())
daemon = mount("unix:" + PROXIED, MNT, "lease=60")  # the server is stopped for longer than the default


def proxied():
    """What the proxy counted: of all that is quiet, for a frame is counted before it is passed on."""
    proxy.send_signal(signal.SIGUSR1)
    check(proxy.stdout.readline().startswith("counts"), "the proxy counts")
    return json.loads(read(TMP + "/proxy.json"))


# ------------------------------------------------------------------------------------- independent counts

note("round trips and bytes agree with the proxy's, bytes with what was copied")
before = figures()
same("content", read(HOST + "/big"), read(MNT + "/big"))
touch(MNT + "/written", 3_000_003)
for n in range(20):
    missing(f"{MNT}/no{n}")
os.mkdir(MNT + "/directory")
vfsstat("sync", MNT)
now = figures()
same("bytes read", 5_000_001, now["fuse.bytes_read"] - before["fuse.bytes_read"])
same("bytes written", 3_000_003, now["fuse.bytes_written"] - before["fuse.bytes_written"])
same("ENOENT", 20, now["fuse.op.LOOKUP.error.ENOENT"] - before.get("fuse.op.LOOKUP.error.ENOENT", 0) - 2)  # and two new
same("fuse.enoent", now["fuse.op.LOOKUP.error.ENOENT"], now["fuse.enoent"])
proxy_now = proxied()
after = figures()
sent = sum(after["rpc." + k] for k in ("requests", "pings", "oneway"))
low = sum(now["rpc." + k] for k in ("requests", "pings", "oneway"))
check(low <= proxy_now["to_server"]["extended_frames"] <= sent,
      f"messages sent: {low} to {sent}, by the proxy {proxy_now['to_server']['extended_frames']}")
same("requests of the kernel, all operations", after["fuse.requests"],
     sum(v for k, v in after.items() if re.fullmatch(r"fuse\.op\.\w+\.count", k)))
same("messages, all operations", sent, sum(v for k, v in after.items() if re.fullmatch(r"rpc\.op\.\w+\.count", k)))
same("answers timed, all round trips", after["rpc.requests"], after["rpc.rtt.samples"])
payload = proxy_now["to_server"]["payload_bytes"]
check(payload >= 3_000_003, f"the proxy saw {payload} bytes of payload")

note("requests of the kernel agree with the session's debug log")
with open(TMP + "/debug", "wb") as log:
    debugged = start(BIN + "/vsockfs", "-d", "unix:" + SERVED, SECOND, stderr=log, ready=lambda: mounted(SECOND)) \
        if os.makedirs(SECOND, exist_ok=True) is None else None
    os.listdir(SECOND + "/many")
    read(SECOND + "/big")
    for n in range(10):
        missing(f"{SECOND}/no{n}")


def logged():
    return len(re.findall(rb"unique: \d+, opcode: ", read(TMP + "/debug")))


wait_for(lambda: figures(SECOND)["fuse.requests"] == logged(), 20, "the counts are the same")
check(logged() > 20, f"the log has {logged()} requests")
unmount(debugged, SECOND)

# -------------------------------------------------------------------------------------- every figure moves

note("every figure moves by what it counts")
second = mount("unix:" + SERVED, SECOND, "attr_timeout=3600", "lease=60")


def stopped(process, at, doing, look):
    """With the process stopped: starts doing(), waits for look(figures), and lets it go on."""
    process.send_signal(signal.SIGSTOP)
    threads = [threading.Thread(target=d) for d in doing]
    try:
        for t in threads:
            t.start()
        wait_for(lambda: look(figures(at)), 20, "it shows")
        return figures(at)
    finally:
        process.send_signal(signal.SIGCONT)
        for t in threads:
            t.join()


def looks_up():
    """Somebody waits for the host's answer; a ping that it does not answer is pending as well."""
    return figures().get("oldest.op") == "LOOKUP"


def interrupted():
    """A process that is told to end while it waits."""
    server.send_signal(signal.SIGSTOP)
    try:
        child = start("stat", MNT + "/never-looked-up-before", stderr=subprocess.DEVNULL)
        wait_for(looks_up, 20, "it waits")
        child.terminate()
        wait_for(lambda: figures()["fuse.interrupts"] > 0, 20, "it is interrupted")
    finally:
        server.send_signal(signal.SIGCONT)
    child.wait()


def queue():
    """More than the socket takes, with nobody who reads."""
    data = os.urandom(1 << 20)
    files = [os.open(f"{SECOND}/queued{n}", os.O_CREAT | os.O_WRONLY, 0o644) for n in range(40)]
    seen = stopped(server, SECOND, [lambda fd=fd: os.pwrite(fd, data, 0) for fd in files],
                   lambda f: f["rpc.waiting"] > 0)
    for fd in files:
        os.close(fd)
    check(seen["rpc.pending"] > 0 and seen["fuse.pending"] > 0, "what is pending shows")
    MOVED.update(("rpc.waiting", "rpc.pending", "fuse.pending"))


def unread_log():
    """A reader of the live log that does not read."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(figures()["mount.control"])
        s.sendall(b"watch 0\n")
        wait_for(lambda: missing(f"{MNT}/wait") is None and figures()["trace.lines"] > 0, 20, "the log is on")
        while figures()["trace.dropped"] == 0:
            for n in range(500):
                os.close(os.open(f"{MNT}/many/file{n}", os.O_RDONLY))


def beyond_the_kernel():
    """Names of which the kernel was told only the first, looked up one by one."""
    with os.scandir(SECOND + "/many") as entries:
        next(entries)
    for n in range(FILES):
        os.stat(f"{SECOND}/many/file{n}")


def not_empty():
    try:
        os.rmdir(MNT + "/many")
        fail("rmdir of a full directory went through")
    except OSError:
        pass


def pages():
    """Pages that the kernel let go of."""
    fd = os.open(SECOND + "/big", os.O_RDONLY)
    for _ in range(3):
        os.pread(fd, 1 << 20, 0)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def host_changes():
    """Of what the guest has heard of."""
    read(MNT + "/written")
    touch(HOST + "/written", 1)
    vfsstat("sync", MNT)


def longer_while_open():
    """The size of what is open is asked for by no request of the kernel's."""
    with open(MNT + "/written", "rb") as f:
        f.read()
        with open(HOST + "/written", "ab") as host:
            host.write(b"more")
        vfsstat("sync", MNT)


def of_no_interest():
    """Names that nobody asked for, in a directory whose attributes are gone already."""
    missing(MNT + "/arm")
    for n in range(3):
        touch(f"{HOST}/of-no-interest{n}")
        vfsstat("sync", MNT)


def parked():
    """What is dropped while a request in the directory waits for the host."""
    def drop():
        vfsstat("drop", MNT)
        wait_for(lambda: figures()["inval.waiting"] > 0, 20, "it waits")
        MOVED.add("inval.waiting")
    server.send_signal(signal.SIGSTOP)
    try:
        child = start("stat", MNT + "/never-before", stderr=subprocess.DEVNULL)
        wait_for(looks_up, 20, "it is in flight")
        drop()
    finally:
        server.send_signal(signal.SIGCONT)
    child.wait()


def state(child):
    with open(f"/proc/{child.pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def behind_a_lock():
    """Two make a name each in one directory, the second behind the first one's lock, when the host changes a name in it."""
    at = f"/locked{len(glob.glob(HOST + '/locked*'))}"
    os.mkdir(HOST + at)
    touch(HOST + at + "/old", 1)
    touch(HOST + at + "/new", 2)
    vfsstat("sync", MNT)
    os.stat(MNT + at + "/old")
    server.send_signal(signal.SIGSTOP)
    try:
        first = start("mkdir", MNT + at + "/first")
        wait_for(lambda: figures().get("oldest.op") in ("LOOKUP", "MKDIR"), 20, "the first is in flight")
        second_one = start("mkdir", MNT + at + "/second")
        wait_for(lambda: state(second_one) == "D", 20, "the second waits for the directory's lock")
        os.rename(HOST + at + "/new", HOST + at + "/old")
    finally:
        server.send_signal(signal.SIGCONT)
    same("mkdir", [0, 0], [first.wait(), second_one.wait()])
    same("the size after what synchronises", 2, os.stat(MNT + at + "/old").st_size)


def late():
    """The reply of the first waits for a name that is told behind its own lock, if the notifier comes to it in time."""
    before = figures()["fence.late"]
    for _ in range(20):
        behind_a_lock()
        if figures()["fence.late"] != before:
            break


def lock():
    with open(MNT + "/big", "rb+") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)


def overflow():
    """More changes at once than fanotify keeps."""
    with open("/proc/sys/fs/fanotify/max_queued_events", encoding="ascii") as f:
        most = int(f.read())
    server.send_signal(signal.SIGSTOP)
    try:
        os.mkdir(HOST + "/flood")
        for n in range(most + 616):
            os.mknod(f"{HOST}/flood/{n}")
    finally:
        server.send_signal(signal.SIGCONT)


def list_again():
    """Once more after the kernel dropped its own listing, as for a new mtime (fuse_readdir_cached)."""
    os.listdir(SECOND + "/many")
    os.utime(SECOND + "/many")
    os.listdir(SECOND + "/many")


# What moves it, and on which mount it shows. None: it shows in the course of another.
MOVES = {
    "fuse.requests": (lambda: missing(MNT + "/m1"), MNT),
    "fuse.answered": (lambda: read(MNT + "/big"), MNT),
    "fuse.interrupts": (interrupted, MNT),
    "fuse.errors": (not_empty, MNT),
    "fuse.enoent": (lambda: missing(MNT + "/m2"), MNT),
    "fuse.bytes_read": (lambda: read(MNT + "/many/file7") or read(HOST + "/big") == read(SECOND + "/big"), SECOND),
    "fuse.bytes_written": (lambda: touch(MNT + "/w", 10), MNT),
    "fuse.pending": (None, SECOND),
    "rpc.requests": (lambda: missing(MNT + "/m3"), MNT),
    "rpc.own": (longer_while_open, MNT),
    "rpc.pings": (lambda: None, MNT),
    "rpc.oneway": (lambda: touch(MNT + "/w2", 10), MNT),
    "rpc.errors": (lambda: missing(MNT + "/m4"), MNT),
    "rpc.bytes_sent": (lambda: missing(MNT + "/m5"), MNT),
    "rpc.bytes_received": (lambda: missing(MNT + "/m6"), MNT),
    "rpc.queued": (queue, SECOND),
    "rpc.waiting": (None, SECOND),
    "rpc.pending": (None, SECOND),
    "rpc.rtt.samples": (lambda: missing(MNT + "/m7"), MNT),
    "rpc.wait.samples": (lambda: missing(MNT + "/m8"), MNT),
    "cache.attr_hits": (lambda: subprocess.run(["stat", "--cached=never", MNT + "/big"], check=True,
                                               stdout=subprocess.DEVNULL), MNT),
    "cache.nodes": (lambda: touch(MNT + "/w3"), MNT),
    "cache.name_hits": (beyond_the_kernel, SECOND),
    "cache.listing_hits": (list_again, SECOND),
    "cache.open_hits": (lambda: read(MNT + "/big") and read(MNT + "/big"), MNT),
    "cache.page_hits": (pages, SECOND),
    "cache.names": (lambda: missing(MNT + "/m9"), MNT),
    "cache.pages": (None, SECOND),
    "fence.asked": (lambda: vfsstat("sync", MNT), MNT),
    "fence.locks": (lock, MNT),
    "fence.names": (lambda: os.mkdir(MNT + "/made"), MNT),
    "fence.waits": (behind_a_lock, MNT),
    "fence.wait.samples": (None, MNT),
    "fence.late": (late, MNT),
    "inval.received": (host_changes, MNT),
    "inval.noop": (of_no_interest, MNT),
    "inval.parked": (parked, MNT),
    "inval.waiting": (None, MNT),
    "inval.sent": (host_changes, MNT),
    "inval.lag.samples": (host_changes, MNT),
    "inval.resets": (lambda: vfsstat("drop", "--everything", MNT), MNT),
    "conn.epoch": (None, MNT),
    "conn.heard": (lambda: missing(MNT + "/m10"), MNT),
    "trace.lines": (unread_log, MNT),
    "trace.dropped": (None, MNT),
    "proc.pid": (None, MNT),
    "proc.started": (None, MNT),
    "proc.heartbeat": (lambda: None, MNT),
    "server.connections": (lambda: None, HOST),
    "server.sessions": (None, HOST),
    "server.requests": (lambda: missing(MNT + "/m11"), HOST),
    "server.errors": (lambda: missing(MNT + "/m12"), HOST),
    "server.nodes": (lambda: touch(MNT + "/w4"), HOST),
    "server.files": (None, HOST),
    "server.events": (host_changes, HOST),
    "server.events_own": (lambda: touch(MNT + "/w5"), HOST),
    "server.overflows": (overflow, HOST),
    "server.pushed": (host_changes, HOST),
    "server.resets": (lambda: None, HOST),
}
# Where another test moves it: the file, and what it says of it.
ELSEWHERE = {
    "fuse.untimed": ("tests/unit/test_stats.c", "fuse.untimed"),
    "cache.tainted": ("tests/unit/test_cache.c", "STAT_cache_tainted"),
    "cache.listings_ahead": ("tests/unit/test_ahead.c", "STAT_cache_listings_ahead"),
    "server.outside": ("tests/unit/test_host_confine.c", "STAT_server_outside"),
    "conn.dialect": ("tests/e2e/cases/plain-dialects.sh", "conn.dialect"),
    "conn.since": ("tests/e2e/cases/reconnect-waiting.py", "conn.since"),
    "conn.tries": ("tests/e2e/cases/reconnect-waiting.py", "conn.tries"),
    "conn.resumed": ("tests/e2e/cases/reconnect.py", "conn.resumed"),
    "conn.copied": ("tests/e2e/cases/reconnect-copies.py", "conn.copied"),
    "conn.unsure": ("tests/e2e/cases/reconnect-copies.py", "conn.unsure"),
    "server.copied": ("tests/e2e/cases/reconnect-copies.py", "server.copied"),
    "client.restarts": ("tests/e2e/cases/supervise.py", "client.restarts"),
    "conn.locks_lost": ("tests/e2e/cases/reconnect-locks.py", "conn.locks_lost"),
    "server.away": ("tests/e2e/cases/reconnect-waiting.py", "server.away"),
    "server.resumed": ("tests/e2e/cases/reconnect.py", "server.resumed"),
    "server.replayed": ("tests/e2e/cases/reconnect.py", "server.replayed"),
    "server.resolved": ("tests/e2e/cases/restart.py", "server.resolved"),
    "server.unresolved": ("tests/e2e/cases/restart.py", "server.unresolved"),
    "conn.lost": ("tests/e2e/cases/vfsstat.py", '["conn.lost"] > 0'),
    # takes an invalidation between the kernel's reading a reply and its making the inode
    "inval.retried": ("tests/e2e/cases/vfsstat.py", "inval.retried"),
}
TEXTS = {"conn.state": "connected", "conn.proto": "extended", "mount.point": MNT, "mount.source": "unix:" + PROXIED,
         "mount.device": None, "mount.control": None, "proc.program": None, "server.directory": HOST}
MOVED = set()

listed = {}
for line in vfsstat("--list").splitlines():
    name, kind, rest = re.fullmatch(r"(\S+) +(\w+) +(.*)", line).groups()
    check(len(rest) > 12, f"{name} has no text")
    check(name not in listed, f"{name} is listed twice")
    listed[name] = kind
unmoved = []
for name, kind in listed.items():
    if kind == "op":
        continue
    key = name + ".samples" if kind == "hist" else name
    if kind == "text" and name not in ELSEWHERE:
        check(name in TEXTS, f"no test knows the text {name}")
        found = figures(HOST if name.startswith("server.") else MNT)[name]
        check(found != "" and TEXTS[name] in (None, found), f"{name} is {found!r}")
        continue
    if key in ELSEWHERE:
        continue
    check(key in MOVES, f"no test moves {name}")
    action, place = MOVES[key]
    value = figures(place)[key]
    if action is not None:
        action()
        try:
            end = 30
            wait_for(lambda: figures(place)[key] != value or (value > 0 and "server" in key), end, key)
        except SystemExit:
            unmoved.append(key)
    elif value == 0:
        unmoved.append(key)
same("figures that did not move", [], [k for k in unmoved if k not in MOVED])
for name, (file, words) in ELSEWHERE.items():
    with open(f"{TOP}/{file}", encoding="utf-8") as text:
        check(name in listed and words in text.read(), f"{file} does not test {name}")

# ------------------------------------------------------------------------------------------------ control

note("set takes effect on the live mount")


def stats_of(path, times):
    """Requests of the kernel that so many stat(2) cost."""
    start_at = figures()["fuse.op.GETATTR.count"]
    for _ in range(times):
        os.stat(path)
    return figures()["fuse.op.GETATTR.count"] - start_at


def drop(path):
    """And the kernel has dropped it: it is told after the answer."""
    vfsstat("drop", path)
    vfsstat("sync", MNT)


vfsstat("sync", MNT)  # the server stood still, and sent a RESET
os.stat(MNT + "/big")
same("requests of 20 stat(2), warm", 0, stats_of(MNT + "/big", 20))
vfsstat("set", "attr_timeout=0", "entry_timeout=3600", MNT)
same("as set", "attr_timeout 0\n", vfsstat("get", "attr_timeout", MNT))
drop(MNT + "/big")
same("requests of 20 stat(2), attr_timeout=0", 20, stats_of(MNT + "/big", 20))
vfsstat("set", "attr_timeout=3600", MNT)
drop(MNT + "/big")
os.stat(MNT + "/big")
same("requests of 20 stat(2), attr_timeout=3600", 0, stats_of(MNT + "/big", 20))
check("attr_timeout" in vfsstat("set", "attr_timeout=soon", MNT, code=1), "a wrong value is named")
check("nothing" in vfsstat("set", "nothing=1", MNT, code=1), "a wrong name is named")
same("nothing was set", "attr_timeout 3600\n", vfsstat("get", "attr_timeout", MNT))
vfsstat("set", "attr_timeout=7", "node_cache=x", MNT, code=1)
same("all or nothing", "attr_timeout 3600\n", vfsstat("get", "attr_timeout", MNT))

note("sync makes what the host did visible, also of what is kept by time")
touch(HOST + "/synced", 5)
vfsstat("sync", MNT)
same("size", 5, os.stat(MNT + "/synced").st_size)
third = TMP + "/third"
without = mount("unix:" + SERVED, third, "cache=ttl,attr_timeout=3600,entry_timeout=3600,negative_timeout=3600")
missing(third + "/not-yet")
same("size", 5, os.stat(third + "/synced").st_size)
touch(HOST + "/synced", 7)
touch(HOST + "/not-yet", 1)
same("size without sync", 5, os.stat(third + "/synced").st_size)
missing(third + "/not-yet")
vfsstat("sync", third)
same("size after sync", 7, os.stat(third + "/synced").st_size)
same("a name that was absent", 1, os.stat(third + "/not-yet").st_size)
unmount(without, third)

note("others are refused, by the socket's mode and by the daemon")
control = figures()["mount.control"]
same("mode of the socket", 0o600, os.stat(control).st_mode & 0o7777)


def sleeps_in_poll():
    """How often a thread of the daemon that waits in poll(2) has gone to sleep: the one of the socket."""
    for task in os.listdir(f"/proc/{daemon.pid}/task"):
        at = f"/proc/{daemon.pid}/task/{task}/"
        if b"poll" in read(at + "wchan"):
            return at + "status"
    return None


if os.geteuid() == 0:
    note("without descriptors the socket's thread waits, and does not spin")
    status = sleeps_in_poll()
    check(status, "a thread waits in poll(2)")

    def slept():
        return int(re.search(rb"^voluntary_ctxt_switches:\s*(\d+)", read(status), re.M)[1])

    def descriptors():
        return {int(fd) for fd in os.listdir(f"/proc/{daemon.pid}/fd")}

    def connected():
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(control)
        return peer
    limit = max(20, max(descriptors()) + 1)  # with less than it watches, poll(2) fails
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    idle = []
    while len(descriptors()) < limit:
        had = len(descriptors())
        idle.append(connected())
        wait_for(lambda had=had: len(descriptors()) > had, 20, "it accepts")
    with connected() as peer:
        first = slept()
        wait_for(lambda: slept() >= first + 3, 20, "it goes to sleep")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        idle.pop().close()
        peer.sendall(b"get attr_timeout\n")
        check(peer.recv(100), "and then it accepts")
    for one in idle:
        one.close()
if os.geteuid() == 0:
    def as_other(*args):
        return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", VFSSTAT, *args],
                              capture_output=True, text=True, check=False, cwd="/")
    done = as_other("set", "attr_timeout=1", MNT)
    check(done.returncode == 1 and "owner" in done.stderr, f"refused by the mode: {done.stderr}")
    os.chmod(control, 0o666)
    done = as_other("set", "attr_timeout=1", MNT)
    check(done.returncode == 1 and "owner" in done.stderr, f"refused by the daemon: {done.stderr}")
    os.chmod(control, 0o600)
    same("nothing was set", "attr_timeout 3600\n", vfsstat("get", "attr_timeout", MNT))
    check(as_other(MNT).returncode == 0, "everybody may look")

note("the live log names the request")
seen = b""
tried = 0


def logged_name():
    """Looks up names until one is in the log: it may not have begun yet."""
    global seen, tried
    tried += 1
    missing(f"{MNT}/many/not there {tried}")
    if select.select([slow.stdout], [], [], 0.05)[0]:
        seen += os.read(slow.stdout.fileno(), 65536)
    return b"not%20there" in seen and seen.endswith(b"\n")


with subprocess.Popen([VFSSTAT, "--slow=0", MNT], stdout=subprocess.PIPE) as slow:
    wait_for(logged_name, 20, "the log shows it")
    slow.terminate()
lines = seen.decode().splitlines()
check("operation" in lines[0], "the log has a heading")
check(any(re.search(rf" {os.geteuid()} +{os.getpid()} LOOKUP +ENOENT .* many/not%20there%20\d+$", line) for line in lines),
      f"the log: {lines}")

# ------------------------------------------------------------------------------------------------- stopped

note("the daemon is stopped: vfsstat answers and says so")
daemon.send_signal(signal.SIGSTOP)
try:
    waiting = start("stat", MNT + "/while-stopped", stderr=subprocess.DEVNULL)
    wait_for(lambda: figures()["proc.state"] == "stopped", 20, "proc.state")
    check("daemon is stopped" in vfsstat(MNT), "the report says so")
    check("stopped" in vfsstat("set", "attr_timeout=1", MNT, code=1), "so does a verb")
    vfsstat("--ops", MNT), vfsstat("--top", MNT), vfsstat("--prometheus", MNT)
finally:
    daemon.send_signal(signal.SIGCONT)
waiting.wait()

note("the server is stopped: the oldest request and the silent host show")


def silent():
    f = figures()
    return f.get("oldest.op") == "LOOKUP" and f.get("oldest.sent_age", 0) > 1_000_000_000


server.send_signal(signal.SIGSTOP)
try:
    waiting = start("stat", MNT + "/while-silent", stderr=subprocess.DEVNULL)
    wait_for(silent, 20, "the oldest request")
    same("its pid", waiting.pid, figures()["oldest.pid"])
    said = vfsstat(MNT)
    check(f"oldest request: LOOKUP of node 1 by pid {waiting.pid} (stat)" in said and "last heard" in said
          and re.search(r" slow +\S+\n", said), f"the report: {said}")
finally:
    server.send_signal(signal.SIGCONT)
waiting.wait()
wait_for(lambda: "oldest.op" not in figures(), 20, "nothing is pending")

# ------------------------------------------------------------------------------------------------ grammar

note("operands: a verb, a number or a path; exit codes")
check("which one?" in vfsstat(code=1), "several: they are listed")
check(MNT in vfsstat(code=1) and SECOND in vfsstat(code=1), "each of them")
same("reports", 3, len(re.findall(r" up +\S+\n", vfsstat(MNT, "0.02", "3"))))
for usage in (["--nothing"], ["--ops", "--top", MNT], [MNT, "0", "1"], [MNT, "1", "2", "3"], ["set", MNT], ["drop"],
              ["trace", "maybe"], [MNT, MNT]):
    check("see --help" in vfsstat(*usage, code=2), f"usage of {usage}")
check("/etc" in vfsstat("drop", "/etc", code=1), "drop of what is on no mount")
check("none was" in vfsstat("/etc", code=1), "a path that is no mount")
os.mkdir(TMP + "/1")
os.chdir(TMP)
check("/1: no vsockfs" in vfsstat("./1", code=1), "./1 is a path")
os.chdir(MNT)
vfsstat(".")
vfsstat("drop", "many/file1", "../mnt/big")
os.chdir(TMP)

note("JSON, differences, Prometheus")
with open(TMP + "/saved", "w", encoding="utf-8") as f:
    f.write(vfsstat("--json", MNT))
touch(MNT + "/diff", 12345)
check(re.search(r"^fuse.bytes_written +\+12345$", vfsstat("--diff", TMP + "/saved", MNT), re.M), "--diff")
check("another run" in vfsstat("--diff", TMP + "/saved", SECOND, code=1), "--diff of another mount")
text = vfsstat("--prometheus")
check(f'vsockfs_fuse_requests_total{{mount="{MNT}"}}' in text, "--prometheus")
if os.path.exists("/usr/bin/promtool"):
    subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)

note("columns: as wide as the output, plain where it is no terminal")
for width in (80, 120):
    for args in ([], ["--ops"], ["--top"]):
        for line in vfsstat(*args, MNT, COLUMNS=str(width)).splitlines():
            check(len(line) <= width and line.isprintable(), f"{width} columns, {args}: {line!r}")
    head, keys, values = vfsstat(MNT, COLUMNS=str(width)).splitlines()[2:5]
    for lines in ((head, keys), (keys, values)):
        same("separators", *[[i for i, c in enumerate(line) if c == "|"] for line in lines])


def terminal(*args, keys=b""):
    """On a terminal of 80 columns: what it wrote, and whether the settings are as before."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    settings, out = termios.tcgetattr(theirs), b""
    child = subprocess.Popen([VFSSTAT, *args], stdin=theirs, stdout=theirs, stderr=theirs)
    while b"command" not in out:
        out += os.read(ours, 65536)
    if keys:
        os.write(ours, keys)
    else:
        child.terminate()
    while child.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            out += os.read(ours, 65536)
    same(f"settings of the terminal after {args}", settings, termios.tcgetattr(theirs))
    os.close(ours)
    os.close(theirs)
    return out, child.returncode


for keys, code in ((b"wq", 0), (b"", -signal.SIGTERM)):
    out, found = terminal("--top", MNT, keys=keys)
    same(f"exit code of --top after {keys!r}", code, found)
    check(out.startswith(b"\033[?1049h") and out.rstrip().endswith(b"\033[?1049l"), "the screen is given back")

# ---------------------------------------------------------------------------------------------------- ends

note("a daemon that is killed leaves its figures; one that ends removes them")
last = figures(SECOND)
left = last["mount.control"].replace(".control", ".stats")
second.kill()
second.wait()
same("state of a killed one", "died", json.loads(vfsstat("--json", left))["proc.state"])
check("daemon died" in vfsstat(SECOND), "the report says so")
subprocess.run(["umount", "-l", SECOND], check=True)
second = mount("unix:" + SERVED, SECOND)
server.terminate()
same("exit code of the server", 0, server.wait(timeout=60 * SLOW))
wait_for(lambda: figures(SECOND)["conn.state"] != "connected", 20, "the loss of the server")
check(figures(SECOND)["conn.lost"] > 0, "conn.lost")
mine = figures()["mount.control"].replace(".control", ".stats")
for child, at in ((daemon, MNT), (second, SECOND)):
    child.terminate()
    child.wait(timeout=60 * SLOW)
check(not os.path.exists(mine) and not os.path.exists(control), "nothing is left of one that ended")
proxy.terminate()
proxy.wait()
