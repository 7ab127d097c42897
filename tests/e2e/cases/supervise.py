#!/usr/bin/python3
# The client is killed, or replaced by vfsstat restart, and started again by its supervisor in the same mount: what is open,
# locked and begun goes on, once; nothing stale is shown; one that is killed too often ends, and nobody hangs.
# timeout: 300
# mounts: none
# needs: git sqlite3
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import APPENDER, BIN, HOST, SLOW, TMP, bash, check, counter, get, put, same, wait_for

SECONDS, LINES = 30, 3000
HOLDS = "server.nodes", "server.files"
# Each of these fails when it is executed twice.
STORM = """
import os, sys
base = sys.argv[1]
stop = sys.argv[2]
os.mkdir(base)
n = 0
while not os.path.exists(stop):
    d = f"{base}/d{n}"
    os.mkdir(d)
    fd = os.open(d + "/a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, b"x" * 100)
    os.close(fd)
    os.rename(d + "/a", d + "/b")
    os.link(d + "/b", d + "/c")
    os.unlink(d + "/b")
    os.symlink("c", d + "/l")
    assert sorted(os.listdir(d)) == ["c", "l"], os.listdir(d)
    assert open(d + "/l", "rb").read() == b"x" * 100
    os.unlink(d + "/l")
    os.unlink(d + "/c")
    os.rmdir(d)
    n += 1
os.rmdir(base)
print(n)
"""


def note(text):
    print("# " + text, flush=True)


def serve():
    # pylint: disable-next=consider-using-with
    process = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{TMP}/s", f"--pidfile={TMP}/s.pid", f"--state-dir={TMP}/state",
                                f"--stats={TMP}/s.stats", HOST], stdin=subprocess.DEVNULL)
    wait_for(lambda: os.path.exists(f"{TMP}/s.pid") and os.path.getsize(f"{TMP}/s.pid"), SECONDS, "the server listens")
    return process


class Mount:
    def __init__(self, name, options="supervise"):
        self.at, self.stats = f"{TMP}/{name}", f"{TMP}/{name}.stats"
        bash('mount_vfs "$1" "$2" "$3"', f"unix:{TMP}/s", self.at, f"stats={self.stats},{options}")

    def client(self):
        return self.count("proc.pid")

    def supervisor(self):
        with open(f"/proc/{self.client()}/stat", encoding="ascii") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])

    def count(self, name):
        return counter(name, self.stats)

    def another(self, before, times):
        def there():
            try:
                return self.count("client.restarts") > times and self.client() != before and self.count("conn.resumed") > 0
            except (OSError, SystemExit, ValueError):
                return False
        wait_for(there, SECONDS, "another client has taken its place")

    def kill(self):
        before, times = self.client(), self.count("client.restarts")
        os.kill(before, signal.SIGKILL)
        self.another(before, times)

    def restart(self):
        before, times = self.client(), self.count("client.restarts")
        done = subprocess.run([BIN + "/vfsstat", "restart", self.stats], check=False, capture_output=True, text=True,
                              timeout=60 * SLOW)
        same(f"vfsstat restart: {done.stdout}{done.stderr}", 0, done.returncode)
        self.another(before, times)

    def unmount(self):
        bash('must umount "$1"; wait_for 10 no_clients_of "$1"', self.at)


def python(text, *args, **more):
    # pylint: disable-next=consider-using-with
    return subprocess.Popen([sys.executable, "-S", "-c", text, *args], **more)


def writers_go_on(m):
    note("four writers, and clients that are killed or replaced")
    logs = [f"log{n}" for n in range(4)]
    all_of = [python(APPENDER, f"{m.at}/{log}", str(LINES)) for log in logs]
    for n in range(1, 5):
        size = n * LINES // 6 * len(b"000000 log0\n")
        wait_for(lambda size=size: all(os.path.exists(f"{HOST}/{log}") and os.path.getsize(f"{HOST}/{log}") > size
                                       for log in logs), 60, "all have written some more")
        (m.kill if n % 2 else m.restart)()
    for n, w in enumerate(all_of):
        same(f"exit code of writer {n}", 0, w.wait(120 * SLOW))
    for log in logs:
        lines = b"".join(b"%06d %s\n" % (i, log.encode()) for i in range(LINES))
        for at in HOST, m.at:
            found = get(f"{at}/{log}")
            check(found == lines, f"{at}/{log}: {len(found)} bytes instead of {len(lines)}, or others")
        os.unlink(f"{m.at}/{log}")


def open_goes_on(m, again):
    note(f"what is open goes on: {again.__name__}")
    os.makedirs(f"{m.at}/a/b")
    os.chdir(f"{m.at}/a/b")
    for name in "file", "log", "unlinked", "mapped":
        put(name, b"0123456789" * 1000)
    file, log = os.open("file", os.O_RDWR), os.open("log", os.O_WRONLY | os.O_APPEND)
    reader, unlinked = os.open("file", os.O_RDONLY), os.open("unlinked", os.O_RDWR)
    mapped, folder = os.open("mapped", os.O_RDWR), os.open(".", os.O_RDONLY)
    memory = mmap.mmap(mapped, 10000)
    memory[0:2] = b"ab"
    os.unlink("unlinked")
    os.lseek(reader, 4, os.SEEK_SET)
    again()
    memory[2:4] = b"cd"
    memory.flush()
    same("mapped", b"abcd456789", get(f"{HOST}/a/b/mapped")[:10])
    same("written", 2, os.pwrite(file, b"AB", 4))
    same("appended", 3, os.write(log, b"abc"))
    same("without a name, written", 3, os.pwrite(unlinked, b"xyz", 2))
    os.fsync(unlinked)
    same("without a name, read", b"01xyz56789", os.pread(unlinked, 10, 0))
    os.fsync(file)
    same("read on", b"AB6789", os.read(reader, 6))
    same("on the host", (b"0123AB6789", b"789abc"), (get(f"{HOST}/a/b/file")[:10], get(f"{HOST}/a/b/log")[-6:]))
    same("where we are", f"{m.at}/a/b", os.getcwd())
    same("listed here", ["file", "log", "mapped"], sorted(os.listdir(".")))
    same("listed by what was open", ["file", "log", "mapped"], sorted(os.listdir(folder)))
    put("new", b"x")
    same("made here", b"x", get(f"{HOST}/a/b/new"))
    memory.close()
    for fd in file, log, reader, unlinked, mapped, folder:
        os.close(fd)
    os.chdir("/")
    bash('rm -r "$1"', f"{m.at}/a")


LOCKS = {
    "posix": "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "bsd": "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)",
}


def kept_out(path, kind):
    """Whether this lock is somebody else's: asked by a process of its own."""
    text = f"import fcntl, sys\nf = open({path!r}, 'r+')\ntry:\n    {LOCKS[kind]}\nexcept BlockingIOError:\n    sys.exit(9)\n"
    code = python(text).wait(SECONDS * SLOW)
    check(code in (0, 9), f"{kind} lock of {path}: exit code {code}")
    return code == 9


def locks_go_on(m, other, again):
    note(f"locks go on: {again.__name__}")
    held = {}
    for kind, call in LOCKS.items():
        put(f"{m.at}/{kind}", b"x")
        # pylint: disable-next=consider-using-with,unused-variable
        f = held[kind] = open(f"{m.at}/{kind}", "r+b", buffering=0)
        eval(call)  # pylint: disable=eval-used
    again()
    for kind, f in held.items():
        for at in HOST, other.at, m.at:
            check(kept_out(f"{at}/{kind}", kind), f"{kind} is locked, and somebody else has it in {at}")
        same("written under it", 1, f.write(b"y"))
        f.close()
        wait_for(lambda kind=kind: not kept_out(f"{HOST}/{kind}", kind), SECONDS, f"{kind} is released")
        os.unlink(f"{m.at}/{kind}")
    same("locks lost", 0, m.count("conn.locks_lost"))


def nothing_stale(m):
    note("what the host did meanwhile is seen")
    os.mkdir(f"{m.at}/d")
    for name in "changed", "removed", "replaced", "d/moved", "grown":
        put(f"{m.at}/{name}", b"before")
    os.listdir(m.at), os.listdir(f"{m.at}/d")
    for name in "changed", "removed", "replaced", "d/moved", "grown":
        same("content before", b"before", get(f"{m.at}/{name}"))
    check(not os.path.exists(f"{m.at}/made"), "a name that there is not")
    grown = os.open(f"{m.at}/grown", os.O_RDONLY)
    before, times = m.client(), m.count("client.restarts")
    os.kill(before, signal.SIGSTOP)
    put(f"{HOST}/changed", b"after!")
    os.unlink(f"{HOST}/removed")
    put(f"{HOST}/replacement", b"other")
    os.rename(f"{HOST}/replacement", f"{HOST}/replaced")
    os.rename(f"{HOST}/d/moved", f"{HOST}/moved")
    put(f"{HOST}/made", b"new")
    with open(f"{HOST}/grown", "ab") as f:
        f.write(b"x" * 5000)
    os.kill(before, signal.SIGKILL)
    m.another(before, times)
    bash('"$VFS_BIN/vfsstat" sync "$1"', m.stats)
    same("changed", b"after!", get(f"{m.at}/changed"))
    check(not os.path.exists(f"{m.at}/removed"), "what was removed is not there")
    same("replaced", b"other", get(f"{m.at}/replaced"))
    same("moved", b"before", get(f"{m.at}/moved"))
    check(not os.path.exists(f"{m.at}/d/moved"), "what was moved is not where it was")
    same("made", b"new", get(f"{m.at}/made"))
    same("grown", b"before" + b"x" * 5000, os.pread(grown, 10000, 0))
    same("its size", 5006, os.fstat(grown).st_size)
    os.close(grown)
    same("listed", sorted(os.listdir(HOST)), sorted(os.listdir(m.at)))
    for name in "changed", "replaced", "moved", "made", "grown":
        os.unlink(f"{m.at}/{name}")
    os.rmdir(f"{m.at}/d")


def storms(m):
    note("what changes names is done once, however often the client is replaced")
    stop = f"{TMP}/stop"
    all_of = [python(STORM, f"{m.at}/storm{n}", stop, stdout=subprocess.PIPE) for n in range(4)]
    for n in range(30):
        m.restart()
    put(stop, b"")
    for w in all_of:
        said = w.communicate(timeout=120 * SLOW)[0]
        same("exit code", 0, w.returncode)
        check(int(said) > 0, "it has done something")
    os.unlink(stop)


def tools_go_on(m):
    note("git and sqlite, while the client is replaced again and again")
    ended = threading.Event()

    def replace():
        while not ended.is_set():
            m.restart()
    t = threading.Thread(target=replace)
    t.start()
    try:
        bash('''cd "$1"; git init -q r; cd r; git config user.email a@b; git config user.name n
                for i in 1 2 3 4 5 6; do echo $i >f$i; git add -A; git commit -qm c$i; git status --porcelain | must test "$(cat)" = ""; done
                must git fsck --strict 2>/dev/null; same commits 6 "$(git rev-list --count HEAD)"
                for i in $(seq 20); do must sqlite3 db "create table if not exists t(a); begin; insert into t values($i); commit;"; done
                same rows 20 "$(sqlite3 db 'select count(*) from t')"; same integrity ok "$(sqlite3 db 'pragma integrity_check')"''', m.at)
    finally:
        ended.set()
        t.join()
    same("sqlite on the host", "ok", bash('sqlite3 "$1/r/db" "pragma integrity_check"', HOST).strip())
    bash('rm -rf "$1/r"', m.at)


def nothing_leaks(begun):
    note("what the server holds for the client is what it held at first")
    wait_for(lambda: server_holds() == begun, SECONDS, f"as at the start, {begun}: now {server_holds()}")


def server_holds():
    return tuple(counter(name, f"{TMP}/s.stats") for name in HOLDS)


def too_often(m):
    note("one that is killed too often ends the mount, and nobody hangs")
    works = python("import os, sys\ntry:\n    while True:\n        os.listdir(sys.argv[1])\nexcept OSError:\n    pass\n", m.at)
    supervisor = m.supervisor()
    for _ in range(5):
        m.kill()
    os.kill(m.client(), signal.SIGKILL)
    same("the one who worked there ends", 0, works.wait(SECONDS * SLOW))
    wait_for(lambda: not os.path.exists(f"/proc/{supervisor}"), SECONDS, "the supervisor ends")
    bash('must umount "$1"', m.at)


def supervisor_is_killed(m):
    note("without its supervisor a client goes on, and ends with the next kill")
    supervisor, client = m.supervisor(), m.client()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: m.supervisor() != supervisor, SECONDS, "it has ended")
    put(f"{m.at}/file", b"x")
    same("on the host", b"x", get(f"{HOST}/file"))
    os.unlink(f"{m.at}/file")

    def watched():
        with open(f"/proc/{client}/task/{client}/children", encoding="ascii") as f:
            children = f.read().split()
        tasks = [f.path for f in os.scandir(f"/proc/{client}/task")]
        for task in tasks:
            with open(task + "/children", encoding="ascii") as f:
                children += f.read().split()
        return bool(children)
    wait_for(watched, SECONDS, "a watchdog watches it")
    os.kill(client, signal.SIGKILL)

    def gone():
        try:
            os.listdir(m.at)
        except OSError as e:
            return e.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False
    wait_for(gone, SECONDS, "the mount has ended")
    bash('must umount "$1"', m.at)


def ends_well(m):
    note("SIGTERM to the supervisor unmounts")
    supervisor = m.supervisor()
    os.kill(supervisor, signal.SIGTERM)
    wait_for(lambda: not os.path.exists(f"/proc/{supervisor}"), SECONDS, "the supervisor ends")
    bash('wait_for 10 is_unmounted "$1"; wait_for 10 no_clients_of "$1"', m.at)


def main():
    server = serve()
    m, other = Mount("m"), Mount("other", "nosupervise")
    os.listdir(m.at)
    os.listdir(other.at)
    begun = server_holds()
    writers_go_on(m)
    nothing_stale(m)
    storms(m)
    tools_go_on(m)
    for again in m.kill, m.restart:
        open_goes_on(m, again)
        locks_go_on(m, other, again)
    nothing_leaks(begun)
    done = subprocess.run([BIN + "/vfsstat", "restart", other.stats], check=False, capture_output=True, text=True, timeout=60 * SLOW)
    same("restart of one that is not supervised", 1, done.returncode)
    check("supervise" in done.stderr, done.stderr)
    m.unmount()
    other.unmount()
    ends_well(Mount("third"))
    too_often(Mount("fourth"))
    supervisor_is_killed(Mount("fifth"))
    server.terminate()
    same("the server's end", 0, server.wait(SECONDS * SLOW))


main()
