#!/usr/bin/python3
# Names and link targets of any bytes but '/' and NUL, up to the limits, in both directions.
# timeout: 60
# as: root user
import errno
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, bash, check, get, put, refused, same, same_trees, wait_for

host, mnt = HOST.encode(), MNT.encode()

# Every byte alone and between others; invalid UTF-8, overlong and surrogate forms, two normal forms of one letter.
names = [bytes([b]) for b in range(1, 256) if bytes([b]) not in (b"/", b".")]
names += [b"a" + bytes([b]) + b"z" for b in range(1, 256) if b != ord("/")]
names += [b"...", b".hidden", b"-rf", b" ", b"  two  ", b"\n\n", b"a\\b", b"*", b"%s%n", b"C:", b"con", b"name ", b"name.",
          b"\xff\xfe", b"\xc3\x28", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc3\xa9", b"e\xcc\x81",
          b"caf\xe9", "日本語".encode(), "🙂".encode(), b"x" * 255, b"\xff" * 255, "é".encode() * 127]
names = sorted(set(names))

os.mkdir(mnt + b"/guest")
for name in names:
    put(mnt + b"/guest/" + name, name)
same("names on the host", names, sorted(os.listdir(host + b"/guest")))
for name in names:
    same(f"content of {name!r}", name, get(host + b"/guest/" + name))

os.mkdir(host + b"/host")
for name in names:
    put(host + b"/host/" + name, b"h" + name)
wait_for(lambda: os.path.isdir(mnt + b"/host"), 5, "the host's directory is seen")
same("names in the mount", names, sorted(os.listdir(mnt + b"/host")))
for name in names:
    same(f"content of {name!r}", b"h" + name, get(mnt + b"/host/" + name))

# Neither case nor Unicode form is folded.
os.mkdir(mnt + b"/case")
put(mnt + b"/case/Name", b"upper")
refused(errno.ENOENT, os.stat, mnt + b"/case/name")
put(mnt + b"/case/name", b"lower")
same("two names that differ in case", b"upper", get(mnt + b"/case/Name"))
same("two forms of one letter", 2, sum(n in (b"\xc3\xa9", b"e\xcc\x81") for n in os.listdir(mnt + b"/guest")))

# Directories, links, renames and removals under such names.
os.mkdir(mnt + b"/ops")
for i, name in enumerate(names):
    base = mnt + b"/ops/"
    os.mkdir(base + name)
    os.symlink(b"target " + name, base + name + b"/" + name)
    same(f"target below {name!r}", b"target " + name, os.readlink(host + b"/ops/" + name + b"/" + name))
    os.rename(base + name + b"/" + name, base + name + b"/%d" % i)
    os.link(mnt + b"/guest/" + name, base + name + b"/" + name)
    same(f"links of {name!r}", 2, os.stat(host + b"/guest/" + name).st_nlink)
same_trees()
for name in names:
    for inner in os.listdir(mnt + b"/ops/" + name):
        os.unlink(mnt + b"/ops/" + name + b"/" + inner)
    os.rmdir(mnt + b"/ops/" + name)
same("what is left", [], os.listdir(host + b"/ops"))

# The limits.
for call in (os.mkdir, os.stat, os.unlink, os.rmdir, lambda p: os.open(p, os.O_CREAT | os.O_WRONLY)):
    refused(errno.ENAMETOOLONG, call, mnt + b"/" + b"x" * 256)
refused(errno.ENAMETOOLONG, os.rename, mnt + b"/case/name", mnt + b"/case/" + b"y" * 256)
refused(errno.ENAMETOOLONG, os.symlink, b"t", mnt + b"/" + b"y" * 256)
for length in (1, 59, 60, 1000, 4095):
    target = (b"\xfe/." * 2000)[:length]
    os.symlink(target, mnt + b"/link%d" % length)
    same(f"target of {length} bytes", target, os.readlink(mnt + b"/link%d" % length))
    same(f"target of {length} bytes on the host", target, os.readlink(host + b"/link%d" % length))
refused(errno.ENAMETOOLONG, os.symlink, b"t" * 4096, mnt + b"/link4096")
refused(errno.ENOENT, os.symlink, b"", mnt + b"/link0")

# A path deeper than PATH_MAX, built and removed step by step.
os.chdir(mnt)
for _ in range(40):
    os.mkdir(b"d" * 200)
    os.chdir(b"d" * 200)
put(b"bottom", b"deep")
same("depth", b"deep", get(b"bottom"))
os.chdir(mnt)
refused(errno.ENAMETOOLONG, os.stat, mnt + (b"/" + b"d" * 200) * 40)
bash('rm -rf "$VFS_MNT"/ddd*')
check(not [n for n in os.listdir(host) if n.startswith(b"ddd")], "the deep directory is still on the host")
