#!/usr/bin/python3
# What the host moves out of the export is out, whatever the mount caches and whatever the server sees; its twin inside
# goes on. Nothing of the canary beside the export changes, and nothing new of it is told. What is open stays.
# timeout: 240
# mounts: none
import errno
import os
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, TMP, bash, check, get, put, same, umount_vfs, wait_for

NOBODY = 65534
OUT = (errno.ESTALE, errno.ENOENT)          # by a path; ENOENT where it is looked up anew


def snapshot(top):
    """All that a change would show in; times of access apart, which our own look moves."""
    found = []
    for at, dirs, files in os.walk(top):
        for name in sorted(dirs + files):
            path = os.path.join(at, name)
            st = os.lstat(path)
            data = get(path) if os.path.isfile(path) and not os.path.islink(path) else b""
            found.append((os.path.relpath(path, top), st.st_mode, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns,
                          data))
    return sorted(found)


def tree(top):
    os.makedirs(top + "/sub/deep")
    put(top + "/sub/file", b"file\n")
    put(top + "/sub/open", b"open\n")
    put(top + "/sub/gone", b"gone\n")
    put(top + "/sub/deep/inner", b"inner\n")
    os.symlink("file", top + "/sub/link")


# Each from the working directory, which the guest's kernel has.
CALLS = {
    "stat": lambda: os.stat("sub"),
    "stat deep": lambda: os.stat("sub/deep/inner"),
    "list": lambda: os.listdir("sub")[0],
    "read": lambda: os.read(os.open("sub/file", os.O_RDONLY), 10),
    "write": lambda: os.write(os.open("sub/open", os.O_RDWR), b"changed"),
    "truncate": lambda: os.open("sub/file", os.O_WRONLY | os.O_TRUNC),
    "create": lambda: os.open("sub/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "mkdir": lambda: os.mkdir("sub/newdir"),
    "symlink": lambda: os.symlink("x", "sub/newlink"),
    "chmod": lambda: os.chmod("sub/file", 0o600),
    "unlink": lambda: os.unlink("sub/gone"),
    "rename": lambda: os.rename("sub/file", "sub/file2"),
    "rmdir": lambda: os.rmdir("sub/newdir"),
}
ONLY_ALONE = ("rmdir",)                     # needs what another one has made


def outcome(call):
    """In a process of its own, in the working directory: 0 or the errno."""
    pid = os.fork()
    if not pid:
        try:
            call()
            os._exit(0)
        except OSError as e:
            os._exit(e.errno)
        except IndexError:                  # an empty listing
            os._exit(errno.ENOENT)
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attacked(what, host, mnt, user, plain):
    tree(host + "/d")
    tree(host + "/twin")
    bash('chown -hR "$2:$2" "$1"/*', host, str(user))
    canary = host + "/../canary"
    for top in ("d", "twin"):
        wait_for(lambda: os.path.exists(f"{mnt}/{top}/sub/deep/inner"), 10, f"{what}: the tree")
        for at, dirs, files in os.walk(f"{mnt}/{top}"):
            for name in dirs + files:
                os.lstat(os.path.join(at, name))
    os.chdir(mnt + "/d")
    held = os.open("sub/open", os.O_RDWR)
    same(f"{what}: before", b"open\n", os.pread(held, 10, 0))
    os.rename(host + "/d", canary)
    before = snapshot(canary)
    for name, call in CALLS.items():
        if name in ONLY_ALONE:
            continue
        found = outcome(call)
        # Names and attributes that the kernel has, and for the timeouts may have, cost no request; nobody has read the file.
        if not (found == 0 and name in ("stat", "stat deep", "list")):
            check(found in OUT, f"{what}: {name} of what was moved out: {os.strerror(found) if found else 'done'}")
    same(f"{what}: the canary", before, snapshot(canary))
    # what is open stays
    put(canary + "/sub/open", b"later\n")
    os.pwrite(held, b"OPEN", 0)
    same(f"{what}: through an open file", b"OPENr\n", get(canary + "/sub/open"))
    os.close(held)
    os.chdir(mnt + "/twin")
    for name, call in CALLS.items():
        found = outcome(call)
        if not (plain and found == errno.EPERM and name == "chmod"):
            same(f"{what}: {name} of the twin", 0, found)
    os.chdir("/")
    os.rename(canary, host + "/d")
    wait_for(lambda: os.path.exists(mnt + "/d/sub/file"), 10, f"{what}: it is back")
    bash('rm -rf "$1"/*', host)


def server(host, sock, user, *flags):
    if user:
        os.chown(host, user, user)
        os.chown(os.path.dirname(host), user, user)
    program = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{sock}", f"--pidfile={sock}.pid", "--log-level=info",
                                *flags, host], stdin=subprocess.DEVNULL, stderr=open(sock + ".log", "w"),
                               **({"user": user, "group": user, "extra_groups": []} if user else {}))
    wait_for(lambda: os.path.exists(sock + ".pid") and os.path.getsize(sock + ".pid"), 20, "the server listens")
    return program


os.umask(0)
os.chmod(TMP, 0o777)
number = 0
for user in (0, NOBODY):
    for options in ("", "cache=ttl", "cache=none", "proto=plain,plain_base=/workspace"):
        number += 1
        base = f"{TMP}/{number}"
        os.makedirs(base + "/export")
        os.chmod(base, 0o777)
        os.chmod(base + "/export", 0o777)
        program = server(base + "/export", base + "/sock", user)
        try:
            bash('mount_vfs "$1" "$2" "$3"', f"unix:{base}/sock", base + "/mnt", options)
            attacked(f"server of {user}, {options or 'cache=lease'}", base + "/export", base + "/mnt", user, "plain" in options)
            umount_vfs(base + "/mnt")
        finally:
            program.terminate()
            program.wait()
