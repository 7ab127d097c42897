#!/usr/bin/python3
# A directory of 100,000 entries made on the host: listed whole, by parts with seekdir, and while it changes.
# timeout: 240
# options: stats=$VFS_TMP/stats
import ctypes
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIND, HOST, MNT, check, fail, requests_sent, same, wait_for

COUNT = 100_000


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
for f, more in (("readdir", []), ("telldir", []), ("seekdir", [ctypes.c_long]), ("rewinddir", []), ("closedir", [])):
    getattr(libc, f).argtypes = [ctypes.c_void_p, *more]


class Directory:
    def __init__(self, path):
        self.d = libc.opendir(path.encode())
        check(self.d, f"opendir {path}: {os.strerror(ctypes.get_errno())}")

    def read(self):
        ctypes.set_errno(0)
        entry = libc.readdir(self.d)
        if not entry:
            check(not ctypes.get_errno(), f"readdir: {os.strerror(ctypes.get_errno())}")
            return None
        return entry.contents.name

    def rest(self):
        names = []
        while (name := self.read()) is not None:
            names.append(name)
        return names

    def tell(self):
        return libc.telldir(self.d)

    def seek(self, at):
        libc.seekdir(self.d, at)

    def rewind(self):
        libc.rewinddir(self.d)

    def close(self):
        libc.closedir(self.d)


def entry(i):
    return f"entry with a name of ordinary length {i:06}"


big = HOST + "/big"
os.mkdir(big)
fd = os.open(big, os.O_RDONLY)
for i in range(COUNT):
    if i % 1000 == 0:
        os.mkdir(entry(i), dir_fd=fd)
    else:
        os.close(os.open(entry(i), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
wait_for(lambda: os.path.isdir(MNT + "/big"), 10, "the directory is seen in the mount")
expected = sorted([b".", b".."] + [entry(i).encode() for i in range(COUNT)])

print("# whole")
before = requests_sent()
d = Directory(MNT + "/big")
places, names = {}, []
while True:
    at = d.tell()
    name = d.read()
    if name is None:
        break
    if len(names) % 9973 == 0:
        places[len(names)] = at
    names.append(name)
if sorted(names) != expected:
    fail(f"{len(names)} entries for {len(expected)}; twice: {len(names) - len(set(names))}; "
         f"missing: {sorted(set(expected) - set(names))[:3]}")
sent = requests_sent() - before
print(f"# requests to the server for the listing: {sent}")
check(BIND or 0 < sent < COUNT / 10, f"{sent} requests for a listing of {COUNT} entries")

print("# seekdir to any place already seen goes on there, in any order")
for index in sorted(places, key=lambda i: i * 7919 % 13):
    d.seek(places[index])
    for offset in range(3):
        same(f"entry {index + offset} after seekdir", names[index + offset], d.read())
last = max(places)
d.seek(places[last])
same(f"from entry {last} to the end", names[last:], d.rest())
d.rewind()
same("after rewinddir", len(names), len(d.rest()))
d.close()

print("# types and inode numbers without a stat each")
with os.scandir(MNT + "/big") as found:
    kinds = {True: 0, False: 0}
    for e in found:
        kinds[e.is_dir(follow_symlinks=False)] += 1
        if kinds[True] + kinds[False] <= 50:
            same(f"inode number of {e.name}", e.stat(follow_symlinks=False).st_ino, e.inode())
same("directories and files", {True: COUNT // 1000, False: COUNT - COUNT // 1000}, kinds)

print("# entries that stay are seen exactly once while others come and go, from the mount and from the host")
d = Directory(MNT + "/big")
names, comes, goes = [], set(), set()
while (name := d.read()) is not None:
    names.append(name)
    if len(names) % 1000 == 0:
        i = len(names) // 1000
        side = MNT if i % 2 else HOST
        put_at = f"{side}/big/new {i}"
        os.close(os.open(put_at, os.O_CREAT | os.O_WRONLY))
        comes.add(f"new {i}".encode())
        victim = entry((i * 777 + 1) % COUNT)
        if os.path.isfile(f"{HOST}/big/{victim}"):
            os.unlink(f"{side}/big/{victim}")
            goes.add(victim.encode())
d.close()
stay = set(expected) - goes
seen = [n for n in names if n in stay]
same("entries seen twice", 0, len(seen) - len(set(seen)))
same("entries missed", [], sorted(stay - set(seen))[:3])
check(len(comes) > 90 and len(goes) > 90, f"only {len(comes)} came and {len(goes)} went")
wait_for(lambda: sorted(os.listdir(MNT + "/big")) == sorted(os.listdir(HOST + "/big")), 10, "both list the same")

print("# removed: most of it on the host, what is left through the mount while it is listed")
left = sorted(os.listdir(big))[:5000]
for name in set(os.listdir(big)) - set(left):
    (os.rmdir if os.path.isdir(f"{big}/{name}") else os.unlink)(f"{big}/{name}")
wait_for(lambda: sorted(os.listdir(MNT + "/big")) == left, 10, "the mount lists what is left")
with os.scandir(MNT + "/big") as found:
    for e in found:
        (os.rmdir if e.is_dir(follow_symlinks=False) else os.unlink)(e.path)
os.rmdir(MNT + "/big")
check(not os.path.exists(big), "the directory is still on the host")
