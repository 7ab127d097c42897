#!/usr/bin/python3
# Two mounts of one export and the host see each other's locks: POSIX, open file description, and BSD.
# timeout: 120
import fcntl
import os
import signal
import struct
import sys
import subprocess
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIND, HOST, MNT, SLOW, TMP, check, mount_again, same, umount_vfs, wait_for

OFD_SETLK, OFD_SETLKW = 37, 38
UNLOCK, SHARED, EXCLUSIVE = fcntl.F_UNLCK, fcntl.F_RDLCK, fcntl.F_WRLCK


def take(fd, kind, how, start=0, length=0, wait=False):
    """Whether the lock was had."""
    try:
        if kind == "flock":
            op = {SHARED: fcntl.LOCK_SH, EXCLUSIVE: fcntl.LOCK_EX, UNLOCK: fcntl.LOCK_UN}[how]
            fcntl.flock(fd, op | (0 if wait else fcntl.LOCK_NB))
        else:
            cmd = {("posix", False): fcntl.F_SETLK, ("posix", True): fcntl.F_SETLKW,
                   ("ofd", False): OFD_SETLK, ("ofd", True): OFD_SETLKW}[kind, wait]
            fcntl.fcntl(fd, cmd, struct.pack("hhqqi4x", how, os.SEEK_SET, start, length, 0))
        return True
    except (BlockingIOError, PermissionError):
        return False


class Holder:
    """A process that holds a lock until it is told to let go. POSIX locks belong to processes, so each is one."""

    others = []  # write ends that a new process must not keep open

    def __init__(self, path, kind, how, start=0, length=0, wait=False):
        self.gone, said = os.pipe()
        go, self.go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            for end in (self.go, self.gone, *self.others):
                os.close(end)
            fd = os.open(path, os.O_RDWR)
            os.write(said, b"?")
            os.write(said, b"y" if take(fd, kind, how, start, length, wait) else b"n")
            if os.read(go, 1):
                take(fd, kind, UNLOCK, start, length)
            os._exit(0)  # the kernel closes the descriptor, and with it goes the lock
        os.close(said)
        os.close(go)
        self.others.append(self.go)
        os.read(self.gone, 1)
        os.set_blocking(self.gone, False)

    def had(self):
        """Whether it has the lock by now; None while it waits."""
        try:
            return os.read(self.gone, 1) == b"y"
        except BlockingIOError:
            return None

    def got(self):
        answers = []
        wait_for(lambda: (answers.append(self.had()), answers[-1] is not None)[1], 10, "an answer about a lock")
        return answers[-1]

    def end(self, sig=None, unlock=False):
        """By closing the descriptor, unless unlock says otherwise. The kernel tells a FUSE server of a close
        without waiting for it, so that such a lock goes a moment after the process."""
        if unlock:
            os.write(self.go, b"u")
        if sig:
            os.kill(self.pid, sig)
        self.others.remove(self.go)
        os.close(self.go)
        os.close(self.gone)
        os.waitpid(self.pid, 0)


def free(path, kind, how, start=0, length=0):
    """Whether another process could take this lock now."""
    probe = Holder(path, kind, how, start, length)
    had = probe.got()
    probe.end(unlock=True)
    return had


second, local = TMP + "/second", TMP + "/local"
mount_again(second)
open(HOST + "/file", "xb").close()
places = {"mount": MNT + "/file", "second mount": second + "/file", "host": HOST + "/file"}
wait_for(lambda: all(os.path.exists(p) for p in places.values()), 5, "the file is seen everywhere")

for kind in ("posix", "ofd", "flock"):
    for where, path in places.items():
        for other, elsewhere in places.items():
            what = f"{kind}: held in the {where}, asked in the {other}"
            check(free(elsewhere, kind, EXCLUSIVE), f"{what}: not free before")
            holder = Holder(path, kind, EXCLUSIVE)
            check(holder.got(), f"{what}: the first lock was refused")
            check(not free(elsewhere, kind, EXCLUSIVE), f"{what}: an exclusive lock was given twice")
            check(not free(elsewhere, kind, SHARED), f"{what}: a shared lock beside an exclusive one")
            holder.end()
            wait_for(lambda: free(elsewhere, kind, EXCLUSIVE), 5, f"{what}: free after the holder ended")
            holder = Holder(path, kind, SHARED)
            check(holder.got(), f"{what}: the shared lock was refused")
            check(free(elsewhere, kind, SHARED), f"{what}: no second shared lock")
            check(not free(elsewhere, kind, EXCLUSIVE), f"{what}: an exclusive lock beside a shared one")
            holder.end(signal.SIGKILL)
            wait_for(lambda: free(elsewhere, kind, EXCLUSIVE), 5, f"{what}: free after the holder was killed")

print("# ranges, and kinds against each other")
for kind in ("posix", "ofd"):
    holder = Holder(places["mount"], kind, EXCLUSIVE, 100, 50)
    check(holder.got(), f"{kind}: range refused")
    for other, path in places.items():
        check(free(path, "posix", EXCLUSIVE, 0, 100), f"{kind}: bytes before the range are locked in the {other}")
        check(not free(path, "posix", EXCLUSIVE, 149, 1), f"{kind}: the last byte of the range is free in the {other}")
        check(free(path, "posix", EXCLUSIVE, 150, 0), f"{kind}: bytes after the range are locked in the {other}")
        check(not free(path, "ofd", SHARED, 0, 0), f"{kind}: an OFD lock over the range was given in the {other}")
        check(free(path, "flock", EXCLUSIVE), f"{kind}: a range lock keeps flock out in the {other}")
    holder.end()

print("# F_GETLK")
holder = Holder(places["second mount"], "posix", EXCLUSIVE, 10, 10)
check(holder.got(), "range refused")
fd = os.open(places["mount"], os.O_RDWR)
found = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", SHARED, os.SEEK_SET, 0, 0, 0)))
same("the lock that is in the way: type, start, length", (EXCLUSIVE, 10, 10), (found[0], found[2], found[3]))
holder.end()
os.close(fd)

print("# one who waits is woken, wherever the holder was; one who is killed while waiting leaves nothing")
for kind in ("posix", "ofd", "flock"):
    for where, path in places.items():
        for other, elsewhere in places.items():
            what = f"{kind}: held in the {where}, awaited in the {other}"
            holder = Holder(path, kind, EXCLUSIVE)
            check(holder.got(), f"{what}: the first lock was refused")
            waiter = Holder(elsewhere, kind, EXCLUSIVE, wait=True)
            doomed = Holder(elsewhere, kind, EXCLUSIVE, wait=True)
            same(f"{what}: an answer before the holder let go", None, waiter.had())
            doomed.end(signal.SIGKILL)
            holder.end()
            check(waiter.got(), f"{what}: the waiter was refused")
            check(not free(path, kind, EXCLUSIVE), f"{what}: the waiter's lock is not seen")
            waiter.end()
            wait_for(lambda: free(path, kind, EXCLUSIVE), 5, f"{what}: free at the end")

print("# a waiter that a signal interrupts gets EINTR, and no lock")
holder = Holder(places["host"], "flock", EXCLUSIVE)
check(holder.got(), "the first lock was refused")
done = subprocess.run(["timeout", "-s", "INT", str(SLOW), "flock", places["mount"], "true"], check=False, timeout=60 * SLOW)
same("exit code of timeout", 124, done.returncode)
holder.end()
wait_for(lambda: free(places["second mount"], "flock", EXCLUSIVE), 5, "free after the interrupted waiter")

if not BIND:
    print("# with locks=local nobody else sees a lock: so the others above were seen on the host")
    mount_again(local, "locks=local")
    for kind in ("posix", "flock"):
        holder = Holder(local + "/file", kind, EXCLUSIVE)
        check(holder.got(), f"{kind}: the local lock was refused")
        check(not free(local + "/file", kind, EXCLUSIVE), f"{kind}: a local lock was given twice")
        check(free(places["host"], kind, EXCLUSIVE), f"{kind}: a local lock is seen on the host")
        holder.end()
    umount_vfs(local)
umount_vfs(second)
