"""A server, a bad line to it, and mounts through the line, for cases in which connections are lost."""
import json
import os
import signal
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_TOP"] + "/tests/support")
# pylint: disable=wrong-import-position
from fault_proxy import FaultProxy
from lib import BIN, HOST, SLOW, TMP, bash, check, counter, same, wait_for

SECONDS = 20  # until something has come about, at the latest


def figures(path):
    """All that a statistics segment shows, by vfsstat."""
    said = subprocess.run([BIN + "/vfsstat", "--json", path], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          text=True, timeout=60 * SLOW)
    same(f"vfsstat --json {path}: {said.stderr}", 0, said.returncode)
    return json.loads(said.stdout)


class Mount:
    """A client of a line."""

    def __init__(self, source, at, options=""):
        self.at, self.stats = at, at + ".stats"
        bash('mount_vfs "$1" "$2" "$3"', source, at, ",".join(o for o in ("stats=" + self.stats, options) if o))
        self.pid = self.count("proc.pid")
        self.mounted = True

    def count(self, name):
        return counter(name, self.stats)

    def figures(self):
        return figures(self.stats)

    def state(self):
        return self.figures()["conn.state"]

    def sync(self):
        """What the host had done before is seen after it."""
        done = subprocess.run([BIN + "/vfsstat", "sync", self.stats], check=False, capture_output=True, text=True,
                              timeout=60 * SLOW)
        same(f"vfsstat sync: {done.stdout}{done.stderr}", 0, done.returncode)

    def is_down(self):
        wait_for(lambda: self.state() == "reconnecting", SECONDS, f"{self.at} knows that its connection is lost")

    def goes_on(self, resumed=1):
        """It has been connected again so often, at least."""
        wait_for(lambda: self.count("conn.resumed") >= resumed, SECONDS, f"{self.at} is connected again")

    def unmount(self):
        self.mounted = False
        bash('case "$VFS_AS" in user) must fusermount3 -u "$1" ;; *) must umount "$1" ;; esac; '
             'wait_for 10 no_clients_of "$1"', self.at)

    def kill(self):
        """Without a word to the server; the mount is taken away."""
        os.kill(self.pid, signal.SIGKILL)
        bash('wait_for 10 no_clients_of "$1"', self.at)
        self.unmount()


class Line:
    """A server of HOST with the proxy in front of it. Used by `with`, which ends all of it."""

    def __init__(self, name="line", server=()):
        self.name, self.served, self.proxied = name, f"{TMP}/{name}.s", f"{TMP}/{name}.proxied"
        self.stats, self.log = f"{TMP}/{name}.stats", f"{TMP}/{name}.log"
        self.mounts, self.started, self.flags = [], [], server
        self.server = self.proxy = None

    def start_server(self):
        pidfile = self.served + ".pid"
        if os.path.exists(pidfile):
            os.unlink(pidfile)
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen([BIN + "/vsockfsd", "--listen", "unix:" + self.served, "--pidfile=" + pidfile,
                                            "--stats=" + self.stats, *self.flags, HOST],
                                           stdin=subprocess.DEVNULL, stderr=log)
        wait_for(lambda: os.path.exists(pidfile) and os.path.getsize(pidfile), SECONDS, "the server listens")

    def __enter__(self):
        self.start_server()
        self.proxy = FaultProxy(self.proxied, self.served)
        return self

    def mount(self, options="", direct=False):
        """One more of the export; direct: not through the proxy."""
        m = Mount("unix:" + (self.served if direct else self.proxied), f"{TMP}/{self.name}.mnt{len(self.mounts)}", options)
        self.mounts.append(m)
        return m

    def count(self, name):
        return counter(name, self.stats)

    def said(self, text):
        """How many lines of the server's log (--keep keeps it) have it."""
        with open(self.log, encoding="utf-8") as f:
            return sum(text in line for line in f)

    def start(self, call):
        """A process that makes this call, and has begun to; `ended` tells how it ended."""
        code = f"import fcntl, os\nos.write(1, b'.')\ntry:\n    {call}\n    os.write(1, b'done')\n" \
               "except OSError as e:\n    os.write(1, str(e.errno).encode())\n"
        p = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
        self.started.append(p)
        same(f"{call}: begins", b".", p.stdout.read(1))
        return p

    @staticmethod
    def ended(p):
        """How its call did: done, an errno, or nothing of a process that was killed."""
        p.wait(30 * SLOW)
        return p.stdout.read().decode()

    def down(self, *mounts):
        """The connection is lost, and stays so: those through the proxy know it."""
        self.proxy.refuse()
        self.proxy.cut()
        for m in mounts:
            m.is_down()

    def up(self, *mounts):
        """It may come back: it has for these."""
        before = [m.count("conn.resumed") for m in mounts]
        self.proxy.allow()
        for m, n in zip(mounts, before):
            m.goes_on(n + 1)

    def cut(self, *mounts):
        """The connection is lost, and made again."""
        before = [m.count("conn.resumed") for m in mounts]
        self.proxy.cut()
        for m, n in zip(mounts, before):
            m.goes_on(n + 1)

    def at_start(self, nodes=0):
        """Nothing of any client is left."""
        wait_for(lambda: [self.count("server." + k) for k in ("sessions", "away", "nodes", "files")] == [0, 0, nodes, 0],
                 SECONDS, "the server has nothing of any client: " +
                 str({k: self.count("server." + k) for k in ("sessions", "away", "nodes", "files")}))

    def __exit__(self, kind, *_):
        try:
            if self.proxy:
                self.proxy.go()
                self.proxy.allow()
                self.proxy.steady()
            for p in self.started:
                p.kill()
                p.wait()
                p.stdout.close()
            for m in self.mounts:
                if m.mounted:
                    m.unmount()
            if self.proxy:
                self.proxy.end()
        finally:
            self.server.send_signal(signal.SIGCONT)
            self.server.terminate()
            status = self.server.wait()
        if kind is None:
            check(status == 0, f"vsockfsd: exit code {status}")
