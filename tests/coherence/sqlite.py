#!/usr/bin/python3
"""sqlite from the host and from mounts at once, in journal modes delete, truncate and persist.

Four processes on the host and four in each mount insert rows into one database and remember what was
committed. Before each look somebody notes how many rows each process has committed; whoever then gets
sqlite's lock must find at least these. At the end every row that was committed is there, and nothing else
than busy was said: that is what the locks and the hand-over of journal and pages under them come to.

synchronous=OFF: nobody pulls the plug, and what is tested is order, of which fsync(2) makes less.

Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
"""

import argparse
import collections
import ctypes
import mmap
import os
import signal
import sqlite3
import struct
import sys
import time

COUNTS = 64  # processes at most
SHOWN = 20
PAUSES = 20  # that a process makes at most for another place's sake
SEEN = 60  # seconds until a mount shows what the host has made, at the latest
HEARD = {signal.SIGCHLD, signal.SIGUSR1}  # a process has ended, or has found something wrong


class Shared:
    """Numbers that all processes see: rows committed of each, what they did, and whether to stop."""

    NAMES = ("stop", "commits", "looks", "busy", "wrong", "shown")

    def __init__(self):
        self.map = mmap.mmap(-1, 8 * (COUNTS * (1 + len(self.NAMES))))

    def at(self, i):
        return struct.unpack_from("=Q", self.map, 8 * i)[0]

    def put(self, i, value):
        struct.pack_into("=Q", self.map, 8 * i, value)

    def add(self, name, who):
        """Each process has its own, so that nobody needs a lock."""
        i = COUNTS * (1 + self.NAMES.index(name)) + who
        self.put(i, self.at(i) + 1)

    def sum(self, name, of=range(COUNTS)):
        at = COUNTS * (1 + self.NAMES.index(name))
        return sum(self.at(at + i) for i in of)


def say(text):
    """A line in one piece, whoever else writes."""
    os.write(1, (text + "\n").encode())


def is_busy(e):
    return isinstance(e, sqlite3.OperationalError) and e.sqlite_errorcode & 0xff in (
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def name_of(e):
    return f"{getattr(e, 'sqlite_errorname', type(e).__name__)}: {e}"


class Worker:
    def __init__(self, shared, who, where, path, mode, others):
        self.shared, self.who, self.where, self.others = shared, who, where, others
        self.committed = self.tried = 0
        self.db = sqlite3.connect(path, timeout=0.005, isolation_level=None)
        self.insist(f"PRAGMA journal_mode={mode}")
        self.insist("PRAGMA synchronous=OFF")

    def wrong(self, what):
        self.shared.add("wrong", self.who)
        os.kill(os.getppid(), signal.SIGUSR1)
        if self.shared.sum("shown") < SHOWN:
            self.shared.add("shown", self.who)
            say(f"wrong: process {self.who} {self.where}: {what}")

    def insist(self, sql):
        """Until it is done, however busy others keep the database; False when the time is over."""
        while True:
            try:
                self.db.execute(sql)
                return True
            except sqlite3.Error as e:
                if not is_busy(e):
                    raise
                self.shared.add("busy", self.who)
                if self.shared.at(COUNTS) and sql != "COMMIT":
                    return False

    def rows(self, count):
        """The committed rows of each process that this one sees, against what was committed before it asked."""
        found = dict(self.db.execute("SELECT who, count(*) FROM t GROUP BY who"))
        self.shared.add("looks", self.who)
        for who, least in enumerate(count):
            if found.get(who, 0) < least:
                self.wrong(f"{least - found.get(who, 0)} of the {least} rows that process {who} has committed are missing")
        if found.get(self.who, 0) != count[self.who]:
            self.wrong(f"{found.get(self.who, 0)} rows of its own, of which it has committed {count[self.who]}")

    def one(self):
        """A transaction that locks at once, or one that reads first and has to raise its lock."""
        count = [self.shared.at(i) for i in range(COUNTS)]
        self.tried += 1
        if not self.insist("BEGIN IMMEDIATE" if self.tried % 4 else "BEGIN"):
            return
        self.rows(count)
        n = self.committed + 1
        self.db.execute("INSERT INTO t(who, n, body) VALUES(?, ?, ?)", (self.who, n, os.urandom(200 + n % 900)))
        self.insist("COMMIT")
        self.committed = n
        self.shared.put(self.who, n)
        self.shared.add("commits", self.who)
        self.let_look()

    def let_look(self):
        """The host is faster than any mount, and would leave nobody else a look at what it has committed."""
        before = self.shared.sum("looks", self.others)
        for _ in range(PAUSES):
            if self.shared.sum("looks", self.others) != before or self.shared.at(COUNTS):
                return
            time.sleep(0.0005)

    def work(self):
        while not self.shared.at(COUNTS):
            try:
                self.one()
            except sqlite3.Error as e:
                if is_busy(e):  # while it reads, or raises its lock: it would wait for one that waits for it
                    self.shared.add("busy", self.who)
                else:
                    self.wrong(name_of(e))
                if self.db.in_transaction:
                    self.rollback()

    def rollback(self):
        try:
            self.db.execute("ROLLBACK")
        except sqlite3.Error as e:
            self.wrong("ROLLBACK: " + name_of(e))


def child(work):
    """As fork(2); it ends with its parent."""
    parent, pid = os.getpid(), os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    code = 3
    try:
        if os.getppid() == parent:
            work()
            code = 0
    except BaseException as e:  # pylint: disable=broad-except
        say(f"a process ended: {name_of(e)}")
    os._exit(code)


def judge(path, where, shared, workers):
    """What is wrong with the database when all is over, as this place shows it."""
    wrong = []
    try:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        said = "; ".join(r[0] for r in db.execute("PRAGMA integrity_check(3)"))
        if said != "ok":
            wrong.append(f"integrity_check {where}: {said}")
        found = collections.defaultdict(set)
        for who, n in db.execute("SELECT who, n FROM t"):
            found[who].add(n)
        lost = sum(len(set(range(1, shared.at(i) + 1)) - found[i]) for i in range(workers))
        more = sum(len(found[i] - set(range(1, shared.at(i) + 1))) for i in range(workers))
        if lost or more:
            wrong.append(f"{lost} committed rows are lost {where}, {more} are there that were not committed")
        db.close()
    except sqlite3.Error as e:
        wrong.append(f"{where}: {name_of(e)}")
    return wrong


def run_mode(mode, args):
    shared = Shared()
    name = f"{mode}.db"
    first = os.path.join(args.host, name)
    for end in ("", "-journal"):
        if os.path.exists(first + end):
            os.unlink(first + end)
    db = sqlite3.connect(first, isolation_level=None)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, n INTEGER, body BLOB)")
    db.execute("CREATE INDEX by_who ON t(who)")
    db.close()

    places = [args.host] + args.mount
    pids, who = [], 0
    for place in places:
        path = os.path.join(place, name)
        where = "on the host" if place == args.host else f"in mount {places.index(place)}"
        until = time.monotonic() + SEEN
        while not os.path.exists(path):
            if time.monotonic() > until:
                say(f"{path} does not show")
                sys.exit(3)
            time.sleep(0.001)
        others = [i for i in range(args.processes * len(places)) if i // args.processes != places.index(place)]
        for _ in range(args.processes):
            pids.append(child(lambda w=who, at=where, p=path, o=others: Worker(shared, w, at, p, mode, o).work()))
            who += 1
    end = time.monotonic() + args.seconds
    failed = 0
    while time.monotonic() < end and shared.sum("wrong") < 1000 and not (args.stop and shared.sum("wrong")):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in pids:
            pids.remove(pid)
            failed += status != 0
            break
        signal.sigtimedwait(HEARD, max(0, end - time.monotonic()))
    shared.put(COUNTS, 1)
    for pid in pids:
        failed += os.waitpid(pid, 0)[1] != 0
    wrong = []
    for place in places:
        wrong += judge(os.path.join(place, name), "on the host" if place == args.host else f"in mount {places.index(place)}",
                       shared, who)
    for line in wrong:
        say(f"wrong: {line}")
    bad = shared.sum("wrong") + len(wrong) + failed
    commits = [sum(shared.at(i) for i in range(p, p + args.processes)) for p in range(0, who, args.processes)]
    say(f"{mode}: {who} processes, commits: {' + '.join(map(str, commits))}; {shared.sum('looks')} looks, "
        f"{shared.sum('busy')} times busy: {bad} wrong")
    if not bad and not all(commits):
        say(f"{mode}: a place has committed nothing")
        sys.exit(3)
    return bad


def main():
    parser = argparse.ArgumentParser(prog="sqlite.py", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="for each mode: 10")
    parser.add_argument("--modes", default="delete,truncate,persist", metavar="LIST", help="delete,truncate,persist")
    parser.add_argument("--processes", type=int, default=4, metavar="N", help="on the host and in each mount: 4")
    parser.add_argument("--load", type=int, default=0, metavar="N", help="so many busy processes beside them: 0")
    parser.add_argument("--stop", action="store_true", help="end a mode at the first thing that is wrong")
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("mount", nargs="+", metavar="MOUNT")
    args = parser.parse_args()
    if args.processes * (1 + len(args.mount)) > COUNTS:
        parser.error("too many processes")

    def spin():
        while True:
            pass
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    busy = [child(spin) for _ in range(args.load)]
    bad = sum(run_mode(mode, args) for mode in args.modes.split(","))
    for pid in busy:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
