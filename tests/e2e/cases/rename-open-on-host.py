#!/usr/bin/python3
# What the guest holds open stays the same file while the host renames it, its directories, or puts another in its place.
# timeout: 60
import errno
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, bash, get, put, refused, same, same_trees, wait_for

os.chdir(MNT)
os.makedirs("a/b/c")
put("a/b/c/file", b"0123456789")
put("a/other", b"another")
fd = os.open("a/b/c/file", os.O_RDWR)
directory = os.open("a/b", os.O_RDONLY | os.O_DIRECTORY)
inode = os.fstat(fd).st_ino


def still_there(what, at):
    os.pwrite(fd, what.encode().ljust(20), 0)
    same(f"{what}: written through the descriptor", what.encode().ljust(20), get(f"{HOST}/{at}"))
    same(f"{what}: read through it", what.encode().ljust(20), os.pread(fd, 20, 0))
    same(f"{what}: inode number", inode, os.fstat(fd).st_ino)
    os.fchmod(fd, 0o600 + len(at) % 8)
    same(f"{what}: mode", 0o600 + len(at) % 8, os.stat(f"{HOST}/{at}").st_mode & 0o777)
    os.ftruncate(fd, 20)


os.rename(HOST + "/a/b/c/file", HOST + "/a/b/c/renamed")
still_there("renamed", "a/b/c/renamed")
os.rename(HOST + "/a/b/c/renamed", HOST + "/moved")
still_there("moved", "moved")
os.rename(HOST + "/moved", HOST + "/a/b/c/file")
os.rename(HOST + "/a", HOST + "/A")
still_there("in a renamed dir", "A/b/c/file")
wait_for(lambda: not os.path.exists("a") and os.path.exists("A"), 5, "the new name of the directory is seen")
same("through the new path", get(HOST + "/A/b/c/file"), get("A/b/c/file"))

# The descriptor of a directory goes with it.
put(HOST + "/A/b/added", b"added")
wait_for(lambda: sorted(os.listdir(directory)) == ["added", "c"], 5, "the listing of a directory held open")
new = os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
os.write(new, b"made")
os.close(new)
same("made through the directory's descriptor", b"made", get(HOST + "/A/b/made"))

# Another file takes the name: the descriptor keeps the old one, the name leads to the new one.
put(HOST + "/A/b/c/new", b"quite another")
os.rename(HOST + "/A/b/c/new", HOST + "/A/b/c/file")
same("the descriptor", b"in a renamed dir", os.pread(fd, 16, 0))
wait_for(lambda: get("A/b/c/file") == b"quite another", 5, "the name leads to the new file")
os.pwrite(fd, b"into the void", 0)
same("the new file, after a write to the old one", b"quite another", get(HOST + "/A/b/c/file"))

# Two names change places; what is open follows its file, not its name.
put("left", b"left")
put("right", b"right")
left, right = os.open("left", os.O_RDWR), os.open("right", os.O_RDWR)
os.rename(HOST + "/left", HOST + "/tmp")
os.rename(HOST + "/right", HOST + "/left")
os.rename(HOST + "/tmp", HOST + "/right")
os.pwrite(left, b"L", 0)
os.pwrite(right, b"R", 0)
same("on the host", (b"Left", b"Right"), (get(HOST + "/right"), get(HOST + "/left")))
wait_for(lambda: (get("left"), get("right")) == (b"Right", b"Left"), 5, "the names have changed places")

# The guest renames what the host has renamed already.
os.rename(HOST + "/left", HOST + "/LEFT")
wait_for(lambda: os.path.exists("LEFT"), 5, "the host's rename is seen")
refused(errno.ENOENT, os.rename, "left", "x")
os.rename("LEFT", "left")
same("renamed back by the guest", b"Right", get(HOST + "/left"))

# A working directory that the host renames stays one.
os.mkdir("cwd")
os.chdir("cwd")
os.rename(HOST + "/cwd", HOST + "/CWD")
put("here", b"here")
same("written in the working directory", b"here", get(HOST + "/CWD/here"))
os.chdir("/")
for f in (fd, directory, left, right):
    os.close(f)
wait_for(lambda: sorted(os.listdir(MNT)) == sorted(os.listdir(HOST)), 5, "both list the same")
bash('wait_for 5 diff -r "$VFS_HOST" "$VFS_MNT"')
same_trees()
