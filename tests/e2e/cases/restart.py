#!/usr/bin/python3
# The server ends, killed or not, and is started again: what is open, locked and begun goes on, once; nothing stale is shown;
# and a server that has not what the one before had ends the mounts.
# timeout: 240
# mounts: none
# as: root user mapped
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import APPENDER, BIN, HOST, SLOW, TMP, bash, check, counter, get, put, refused, same, wait_for

SERVER_UID = {"mapped": int(os.environ["VFS_SERVER_UID"])}.get(os.environ["VFS_AS"])
STATE, SERVED, WIRED = TMP + "/state", TMP + "/s", TMP + "/wired"
SECONDS, LINES = 30, 3000
BEGUN, EXECUTED, PHASE_AT = 1, 2, 12  # of struct state_slot


def note(text):
    print("# " + text, flush=True)


class Server:
    """Of HOST, with a state of its own."""

    def __init__(self, at=SERVED, state=STATE):
        self.at, self.state, self.stats, self.process = at, state, at + ".stats", None

    def launch(self, *flags):
        if os.path.exists(self.at + ".pid"):
            os.unlink(self.at + ".pid")
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen([BIN + "/vsockfsd", "--listen", "unix:" + self.at, f"--pidfile={self.at}.pid",
                                         f"--state-dir={self.state}", f"--stats={self.stats}", *flags, HOST],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, user=SERVER_UID)
        return self

    def start(self):
        self.launch()
        threading.Thread(target=self.copy, args=(self.process.stderr,), daemon=True).start()
        wait_for(lambda: os.path.exists(self.at + ".pid") and os.path.getsize(self.at + ".pid"), SECONDS, "the server listens")
        return self

    @staticmethod
    def copy(said):
        for line in said:
            os.write(2, line)

    def end(self, sig):
        self.process.send_signal(sig)
        same("the server's end", -sig if sig == signal.SIGKILL else 0, self.process.wait(SECONDS * SLOW))

    def refused(self, text):
        """It does not start, and says why."""
        said = self.launch().process.communicate(timeout=60 * SLOW)[1].decode()
        same(f"exit code; it said {said!r}", 1, self.process.returncode)
        check(text in said, f"the server was to say {text!r}, and said {said!r}")

    def count(self, name):
        return counter(name, self.stats)

    def folder(self):
        """Where its state is."""
        names = os.listdir(self.state)
        same("folders of a state", 1, len(names))
        return f"{self.state}/{names[0]}"


class Wire:
    """Between a client and the server; what the server says is lost while `deaf`."""

    def __init__(self, at=WIRED):
        self.deaf, self.lost = threading.Event(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(at)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, server = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
            try:
                server.connect(SERVED)
            except OSError:
                client.close()
                continue
            for pair in (client, server, False), (server, client, True):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, a, b, to_client):
        try:
            while data := a.recv(1 << 16):
                if to_client and self.deaf.is_set():
                    self.lost.set()
                else:
                    b.sendall(data)
        except OSError:
            pass
        for s in a, b:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Mount:
    def __init__(self, name, source=SERVED):
        self.at, self.stats = f"{TMP}/{name}", f"{TMP}/{name}.stats"
        options = ["stats=" + self.stats] + (["uid=0", "gid=0"] if SERVER_UID else [])
        bash('mount_vfs "$1" "$2" "$3"', "unix:" + source, self.at, ",".join(options))
        self.pid = self.count("proc.pid")

    def count(self, name):
        return counter(name, self.stats)

    def unmount(self):
        bash('case "$VFS_AS" in user) must fusermount3 -u "$1" ;; *) must umount "$1" ;; esac; wait_for 10 ended "$2"',
             self.at, str(self.pid))


def restart(server, *mounts, sig=signal.SIGKILL, meanwhile=None):
    """And every client is back."""
    before = [m.count("conn.resumed") for m in mounts]
    server.end(sig)
    if meanwhile:
        meanwhile()
    server.start()
    for m, n in zip(mounts, before):
        wait_for(lambda m=m, n=n: m.count("conn.resumed") > n, SECONDS, f"{m.at} goes on")


def writers_go_on(server, m):
    note("four writers, and three servers that are killed")
    logs = [f"log{n}" for n in range(4)]
    # pylint: disable-next=consider-using-with
    all_of = [subprocess.Popen([sys.executable, "-S", "-c", APPENDER, f"{m.at}/{log}", str(LINES)]) for log in logs]
    for n in range(1, 4):
        size = n * LINES // 5 * len(b"000000 log0\n")
        wait_for(lambda size=size: all(os.path.exists(f"{HOST}/{log}") and os.path.getsize(f"{HOST}/{log}") > size
                                       for log in logs), 60, "all have written some more")
        restart(server, m)
    for n, w in enumerate(all_of):
        same(f"exit code of writer {n}", 0, w.wait(120 * SLOW))
    for log in logs:
        same(log, b"".join(b"%06d %s\n" % (i, log.encode()) for i in range(LINES)), get(f"{HOST}/{log}"))
        same(log, get(f"{HOST}/{log}"), get(f"{m.at}/{log}"))
        os.unlink(f"{m.at}/{log}")


def open_goes_on(server, m, sig):
    note(f"what is open goes on after {sig.name}, but for what has no name any more")
    os.makedirs(f"{m.at}/a/b")
    os.chdir(f"{m.at}/a/b")
    for name in "file", "log", "unlinked":
        put(name, b"0123456789")
    file, log = os.open("file", os.O_RDWR), os.open("log", os.O_WRONLY | os.O_APPEND)
    reader, unlinked = os.open("file", os.O_RDONLY), os.open("unlinked", os.O_RDWR)
    os.unlink("unlinked")
    os.lseek(reader, 4, os.SEEK_SET)
    restart(server, m, sig=sig)
    same("written", 2, os.pwrite(file, b"AB", 4))
    same("appended", 3, os.write(log, b"abc"))
    os.fsync(file)
    same("read on", b"AB6789", os.read(reader, 100))
    same("on the host", (b"0123AB6789", b"0123456789abc"), (get(f"{HOST}/a/b/file"), get(f"{HOST}/a/b/log")))
    same("where we are", f"{m.at}/a/b", os.getcwd())
    same("listed here", ["file", "log"], sorted(os.listdir(".")))
    put("new", b"x")
    same("made here", b"x", get(f"{HOST}/a/b/new"))
    try:
        os.pwrite(unlinked, b"x", 0)
        os.fsync(unlinked)
        check(False, "a file without a name was written to after the server's end")
    except OSError as e:
        check(e.errno in (errno.ESTALE, errno.EBADF), f"a file without a name: {e}")
    for fd in file, log, reader, unlinked:
        os.close(fd)
    os.chdir("/")
    for name in "file", "log", "new":
        os.unlink(f"{m.at}/a/b/{name}")
    os.removedirs(f"{m.at}/a/b") if os.listdir(m.at) != ["a"] else bash('rm -r "$1"', f"{m.at}/a")


# By a process of its own: what we had open would be closed in the child that becomes the server, which closing would wait for.
HOLDER = """
import fcntl, os, struct, sys
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except OSError as e:
        print("errno", e.errno, flush=True)
"""
LOCKS = {
    "posix": "fcntl.lockf({}, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "ofd": "fcntl.fcntl({}, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)) and None",  # F_OFD_SETLK
    "bsd": "fcntl.flock({}, fcntl.LOCK_EX | fcntl.LOCK_NB)",
}
IS_HELD = f"errno {errno.EAGAIN}"


class Holder:
    """A process that opens and locks files, and does what it is told."""

    def __init__(self):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen([sys.executable, "-S", "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(SECONDS * SLOW)

    def begins(self, call):
        self.process.stdin.write(call + "\n")
        self.process.stdin.flush()

    def ends(self):
        return self.process.stdout.readline().strip()

    def does(self, call):
        self.begins(call)
        return self.ends()

    def open(self, path):
        return self.does(f"os.open({path!r}, os.O_RDWR)")

    def locks(self, fd, kind):
        return self.does(LOCKS[kind].format(fd))


def kept_out(at, kind):
    """Whether this lock is somebody else's."""
    with Holder() as other:
        found = other.locks(other.open(f"{at}/{kind}"), kind)
        check(found in ("None", IS_HELD), f"{kind} lock in {at}: {found}")
        return found == IS_HELD


def locks_go_on(server, m, other, sig):
    note(f"locks go on after {sig.name}")
    fds = {}
    with Holder() as holder:
        for kind in LOCKS:
            put(f"{m.at}/{kind}", b"x")
            fds[kind] = holder.open(f"{m.at}/{kind}")
            same(f"{kind} lock", "None", holder.locks(fds[kind], kind))
        for times in range(3):
            for kind in LOCKS:
                check(kept_out(HOST, kind), f"{kind} is locked, and a host's program has it after {times} servers")
                check(kept_out(other.at, kind), f"{kind} is locked, and another mount has it after {times} servers")
            if times < 2:
                restart(server, m, other, sig=sig)
        for kind, fd in fds.items():
            same("written under it", "1", holder.does(f"os.pwrite({fd}, b'y', 0)"))
            holder.does(f"os.close({fd})")
            wait_for(lambda kind=kind: not kept_out(HOST, kind), SECONDS, f"{kind} is released")
            os.unlink(f"{m.at}/{kind}")
    same("locks lost", 0, m.count("conn.locks_lost"))


def locks_are_lost(server, m):
    note("a lock that a host's program took meanwhile is lost, and what goes through the file fails")
    for kind in LOCKS:
        put(f"{m.at}/{kind}", b"x")
        with Holder() as holder, Holder() as thief:
            fd = holder.open(f"{m.at}/{kind}")
            same(f"{kind} lock", "None", holder.locks(fd, kind))
            before = m.count("conn.locks_lost")
            restart(server, m, meanwhile=lambda thief=thief, kind=kind: same(
                "the host's lock", "None", thief.locks(thief.open(f"{HOST}/{kind}"), kind)))
            check(m.count("conn.locks_lost") > before, "the client knows of locks that are lost")
            same("written", f"errno {errno.EIO}", holder.does(f"os.pwrite({fd}, b'y', 0)"))
            holder.does(f"os.close({fd})")
        with Holder() as holder:
            fd = holder.open(f"{m.at}/{kind}")
            same(f"{kind} lock", "None", holder.locks(fd, kind))
            same("written", "1", holder.does(f"os.pwrite({fd}, b'y', 0)"))
        same("on the host", b"y", get(f"{HOST}/{kind}"))
        os.unlink(f"{m.at}/{kind}")


def away_twice(server, m):
    note("servers end while the client is away")
    put(f"{m.at}/file", b"")
    before = m.count("conn.resumed")
    with Holder() as holder:
        fd = holder.does(f"os.open({m.at + '/file'!r}, os.O_WRONLY | os.O_APPEND)")
        os.kill(m.pid, signal.SIGSTOP)
        try:
            for sig in signal.SIGKILL, signal.SIGTERM, signal.SIGKILL:
                server.end(sig)
                server.start()
        finally:
            os.kill(m.pid, signal.SIGCONT)
        same("appended", "1", holder.does(f"os.write({fd}, b'x')"))
        check(m.count("conn.resumed") > before, "the session goes on")
    same("on the host", b"x", get(f"{HOST}/file"))
    os.unlink(f"{m.at}/file")


def nothing_stale(server, m):
    note("what the host did meanwhile is seen")
    os.mkdir(f"{m.at}/d")
    for name in "changed", "removed", "replaced", "d/moved":
        put(f"{m.at}/{name}", b"before")
    os.listdir(m.at), os.listdir(f"{m.at}/d")
    for name in "changed", "removed", "replaced", "d/moved":
        same("content before", b"before", get(f"{m.at}/{name}"))
    check(not os.path.exists(f"{m.at}/made"), "a name that there is not")

    def change():
        with open(f"{HOST}/changed", "r+b") as f:
            f.write(b"AFTER!")
        os.unlink(f"{HOST}/removed")
        put(f"{HOST}/new", b"another")
        os.rename(f"{HOST}/new", f"{HOST}/replaced")
        put(f"{HOST}/made", b"made")

    with Holder() as holder:
        fd = holder.open(f"{m.at}/d/moved")
        restart(server, m, meanwhile=change)
        os.rename(f"{HOST}/d", f"{HOST}/e")
        same("written", "1", holder.does(f"os.pwrite({fd}, b'B', 0)"))
    same("what was changed", b"AFTER!", get(f"{m.at}/changed"))
    same("what was replaced", b"another", get(f"{m.at}/replaced"))
    same("what was made", b"made", get(f"{m.at}/made"))
    refused(errno.ENOENT, os.stat, f"{m.at}/removed")
    same("listed", sorted(os.listdir(HOST)), sorted(os.listdir(m.at)))
    same("moved afterwards", b"Before", get(f"{m.at}/e/moved"))
    for name in "changed", "replaced", "made", "e/moved":
        os.unlink(f"{m.at}/{name}")
    os.rmdir(f"{m.at}/e")


def begun(server):
    """As if the server had been killed inside each request that it was the last to execute in its slot."""
    folder = server.folder()
    size = struct.unpack_from("=9Q", get(folder + "/header"))[8]
    with open(folder + "/slots", "r+b") as f:
        data = f.read()
        for at in range(0, len(data) - size + 1, size):
            if struct.unpack_from("=I", data, at + PHASE_AT)[0] == EXECUTED:
                f.seek(at + PHASE_AT)
                f.write(struct.pack("=I", BEGUN))


def interrupted(server, wire, m, call, done, meanwhile):
    """The call is carried out, its reply is lost, and nobody knows: how the call ends, and the counters' moves."""
    before = m.count("conn.resumed")
    wire.lost.clear()
    with Holder() as caller:
        caller.does(f"os.chdir({m.at!r})")
        log = caller.does("os.open('log', os.O_WRONLY | os.O_APPEND)")
        wire.deaf.set()
        caller.begins(call.format(log=log))
        wait_for(lambda: done() and wire.lost.is_set(), SECONDS, "it is carried out, and the reply lost")
        server.end(signal.SIGKILL)
        begun(server)
        if meanwhile:
            meanwhile()
        wire.deaf.clear()
        server.start()
        wait_for(lambda: m.count("conn.resumed") > before, SECONDS, f"{m.at} goes on")
        return caller.ends(), server.count("server.resolved"), server.count("server.unresolved")


def there(name):
    return lambda: os.path.lexists(f"{HOST}/{name}")


def gone(name):
    return lambda: not os.path.lexists(f"{HOST}/{name}")


def unsure(server, wire, m):
    """server.resolved and server.unresolved: requests that were begun, and of which the server cannot know the end."""
    note("what was carried out is answered, what was not is executed, and what cannot be told is EIO")
    d = m.at

    def seen():
        subprocess.run([BIN + "/vfsstat", "sync", m.stats], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def fresh():
        bash('find "$VFS_HOST" -mindepth 1 -delete')
        seen()  # or a file that is gone is written to
        for name in "from", "gone", "log":
            put(f"{d}/{name}", b"12345")
        os.mkdir(f"{d}/empty")
        seen()
        for name in (*os.listdir(d), "made", "link", "to"):  # nothing is left to be asked before the call itself
            os.path.lexists(f"{d}/{name}")

    def case(what, call, done, expected, meanwhile=None, after=None):
        fresh()
        same(f"{what}: errno, resolved, unresolved", expected, interrupted(server, wire, m, call, done, meanwhile))
        check(after is None or after(), f"{what}: what there is afterwards: {os.listdir(HOST)}")
        same(f"{what}: listed", sorted(os.listdir(HOST)), sorted(os.listdir(d)))

    def log_is(data):
        return lambda: get(f"{HOST}/log") == data

    answered, again, untold = ("None", 1, 0), ("None", 0, 0), (f"errno {errno.EIO}", 0, 1)
    mkdir, symlink = "os.mkdir('made')", "os.symlink('target', 'link')"
    rename, unlink = "os.rename('from', 'to')", "os.unlink('gone')"
    append = "os.write({log}, b'abc') and None"
    case("mkdir", mkdir, there("made"), answered, after=there("made"))
    case("mkdir, undone", mkdir, there("made"), again, lambda: os.rmdir(f"{HOST}/made"), there("made"))
    case("mkdir, replaced", mkdir, there("made"), untold, lambda: (os.rmdir(f"{HOST}/made"), put(f"{HOST}/made", b"")))
    case("symlink", symlink, there("link"), answered)
    case("symlink, replaced", symlink, there("link"), untold,
         lambda: (os.unlink(f"{HOST}/link"), os.symlink("other", f"{HOST}/link")))
    case("link", "os.link('from', 'link')", there("link"), answered)
    case("rename", rename, there("to"), answered, after=gone("from"))
    case("rename, undone", rename, there("to"), again, lambda: os.rename(f"{HOST}/to", f"{HOST}/from"), there("to"))
    case("unlink", unlink, gone("gone"), answered)
    case("unlink, made again", unlink, gone("gone"), untold, lambda: put(f"{HOST}/gone", b""), there("gone"))
    case("rmdir", "os.rmdir('empty')", gone("empty"), answered)
    case("append", append, log_is(b"12345abc"), answered, after=log_is(b"12345abc"))
    case("append, undone", append, log_is(b"12345abc"), again, lambda: os.truncate(f"{HOST}/log", 5), log_is(b"12345abc"))
    case("append, changed", append, log_is(b"12345abc"), untold, lambda: put(f"{HOST}/log", b"12345xyz"), log_is(b"12345xyz"))
    case("create", "os.close(os.open('made', os.O_CREAT | os.O_EXCL | os.O_WRONLY))", there("made"), again, after=there("made"))
    bash('find "$VFS_HOST" -mindepth 1 -delete')


def sessions_left():
    """A server in a sandbox cannot remove its folder: then there is no session in it."""
    left = 0
    for folder in os.listdir(STATE):
        size = struct.unpack_from("=9Q", get(f"{STATE}/{folder}/header"))[4]
        data = get(f"{STATE}/{folder}/sessions")
        left += sum(struct.unpack_from("=I", data, at)[0] == 1 for at in range(0, len(data) - size + 1, size))
    return left


def another_has_it(server):
    note("a state that another server has, or that is not ours, is refused by name")
    with open(server.folder() + "/lock", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        server.refused("another server has it")
    os.chmod(server.folder(), 0o750)
    server.refused("not permitted")
    os.chmod(server.folder(), 0o700)
    if os.geteuid() == 0:
        mine = os.stat(server.folder()).st_uid
        os.chown(server.folder(), 12345, -1)
        server.refused("ermi")  # not permitted, or permission denied
        os.chown(server.folder(), mine, -1)


def without(server, m, state):
    note(f"a server with another state ends the mount: {state}")
    server.end(signal.SIGKILL)
    server.state = state
    server.start()
    refused(errno.ENOTCONN, os.stat, f"{m.at}/file")
    bash('case "$VFS_AS" in user) must fusermount3 -u "$1" ;; *) must umount "$1" ;; esac; wait_for 10 ended "$2"',
         m.at, str(m.pid))
    server.end(signal.SIGTERM)
    server.state = STATE


os.mkdir(STATE)
os.chmod(STATE, 0o777)
os.chmod(TMP, 0o777)
ONE = Server().start()
WIRE = Wire()
FIRST, SECOND = Mount("first"), Mount("second")
try:
    writers_go_on(ONE, FIRST)
    for signal_ in signal.SIGKILL, signal.SIGTERM:
        open_goes_on(ONE, FIRST, signal_)
        locks_go_on(ONE, FIRST, SECOND, signal_)
    locks_are_lost(ONE, FIRST)
    away_twice(ONE, FIRST)
    nothing_stale(ONE, FIRST)
    wait_for(lambda: ONE.count("server.sessions") == 2, SECONDS, "the second is back, too")
    SECOND.unmount()
    wait_for(lambda: ONE.count("server.sessions") == 1 and ONE.count("server.away") == 0, SECONDS, "the second has said goodbye")
    THIRD = Mount("third", WIRED)
    unsure(ONE, WIRE, THIRD)
    THIRD.unmount()
    wait_for(lambda: ONE.count("server.sessions") == 1 and ONE.count("server.away") == 0, SECONDS, "the third has said goodbye")
    ONE.end(signal.SIGKILL)
    another_has_it(ONE)
    ONE.start()
    wait_for(lambda: os.listdir(FIRST.at) == [], SECONDS, "the first mount is still there")
    FIRST.unmount()
    wait_for(lambda: ONE.count("server.sessions") + ONE.count("server.away") == 0, SECONDS, "all have said goodbye")
    ONE.end(signal.SIGTERM)
    same("sessions that are left in the state", 0, sessions_left())
    for other_state in "none", TMP + "/another":
        ONE.start()
        without(ONE, Mount("last"), other_state)
finally:
    if ONE.process.poll() is None:
        ONE.process.kill()
        ONE.process.wait()
