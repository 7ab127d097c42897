#!/usr/bin/python3
# A server without privileges watches so many directories only. What lies beyond is kept by time, and a fence, and a lock
# that is granted, say the truth of it all the same: names, attributes, content.
# timeout: 120
# mounts: none
import fcntl
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, TMP, bash, check, fence, get, put, same, umount_vfs, wait_for

if os.environ["VFS_TRANSPORT"] == "bind":
    print("the stand-in keeps nothing by time")
    sys.exit(77)
DIRECTORIES, NOFILE = 100, 512  # an eighth of the descriptors is the number of marks
LONG = "attr_timeout=3600,entry_timeout=3600,negative_timeout=3600"
said = TMP + "/server.said"


def paths(root, name):
    return [f"{root}/d{n}/{name}" for n in range(DIRECTORIES)]


def looks(root):
    """What there is of each directory: size and content of a file, whether a name is there, what is listed."""
    return [(os.stat(f).st_size, get(f), os.path.exists(n), sorted(os.listdir(os.path.dirname(f))))
            for f, n in zip(paths(root, "file"), paths(root, "new"))]


def wrong():
    return [(n, want, found) for n, (want, found) in enumerate(zip(looks(HOST), looks(MNT))) if want != found]


def change(text):
    for f in paths(HOST, "file"):
        with open(f, "r+b") as out:
            out.write(text)
    for n in paths(HOST, "new"):
        if os.path.exists(n):
            os.unlink(n)
        else:
            put(n, b"new")


def as_before(before):
    """How much the guest shows as it was: the negative."""
    return sum(x == y for a, b in zip(looks(MNT), before) for x, y in zip(a[1:], b[1:]))


for n in range(DIRECTORIES):
    os.mkdir(f"{HOST}/d{n}")
for f in paths(HOST, "file"):
    put(f, b"old content")
os.chmod(TMP, 0o755)
bash('chown -R 65534:65534 "$VFS_HOST"')
bash('''
mkdir "$VFS_TMP/run" && chown 65534:65534 "$VFS_TMP/run"
setpriv --reuid=65534 --regid=65534 --clear-groups prlimit --nofile="$1" \\
	"$VFS_BIN/vsockfsd" --listen "unix:$VFS_TMP/run/s" "--pidfile=$VFS_TMP/run/pid" "$VFS_HOST" </dev/null >"$2" 2>&1 &
wait_for 20 test -s "$VFS_TMP/run/pid"
mount_vfs "unix:$VFS_TMP/run/s" "$VFS_MNT" "$3"
''', str(NOFILE), said, LONG)
pid = int(get(TMP + "/run/pid"))
try:
    with open(said, encoding="utf-8") as f:
        check("directories" in f.read(), "the server watches by directory")
    before = looks(MNT)
    change(b"NEW CONTENT")
    old = as_before(before)
    print(f"# without a fence {old} of {3 * DIRECTORIES} looks are at what was")
    check(old > 0, "nothing is kept by time: this case tests nothing")
    fence(MNT)
    same("after a fence", [], wrong())

    before = looks(MNT)
    change(b"other bytes")
    check(as_before(before) > 0, "nothing is kept by time: this case tests nothing")
    with open(MNT + "/d0/file", "rb+") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        same("under a lock", [], wrong())
finally:
    umount_vfs(MNT)
    os.kill(pid, 15)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the server ends")
