#!/usr/bin/python3
# Lines appended at once through two mounts and on the host stay whole, and none is lost.
# timeout: 90
import collections
import os
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, TMP, check, fail, get, mount_again, same, umount_vfs, wait_for

LINES = 300
second = TMP + "/second"
mount_again(second)
open(HOST + "/log", "xb").close()
wait_for(lambda: os.path.exists(MNT + "/log") and os.path.exists(second + "/log"), 5, "the file is seen in both mounts")


def writer(name, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for i in range(LINES):
        text = f"{name} {i} ".encode() + bytes([97 + i % 26]) * (1 + i * 37 % 3000) + b" end\n"
        if os.write(fd, text) != len(text):
            os._exit(1)
    os.close(fd)
    os._exit(0)


writers = {}
for name, path in (("guest1", MNT), ("guest1b", MNT), ("guest2", second), ("guest2b", second), ("host", HOST)):
    pid = os.fork()
    if not pid:
        try:
            writer(name, path + "/log")
        except OSError as e:
            print(f"{name}: {e}", flush=True)
            os._exit(1)
    writers[pid] = name
for pid, name in writers.items():
    check(os.waitpid(pid, 0)[1] == 0, f"the writer {name} failed")

data = get(HOST + "/log")
seen = collections.Counter()
for n, line in enumerate(data.split(b"\n")[:-1]):
    words = line.split(b" ")
    if len(words) != 4 or words[3] != b"end" or len(set(words[2])) != 1 or len(words[2]) != 1 + int(words[1]) * 37 % 3000:
        fail(f"line {n + 1} is not whole: {line[:60]!r}")
    same(f"next line of {words[0].decode()}", seen[words[0]], int(words[1]))
    seen[words[0]] += 1
same("lines of each", {n.encode(): LINES for n in writers.values()}, dict(seen))
wait_for(lambda: get(MNT + "/log") == data and get(second + "/log") == data, 5, "both mounts read what the host has")

# An append goes to the end also where another moved it a moment ago. (The file position afterwards is the guest kernel's
# own guess of the end plus what was written, and no server can correct it.)
fd = os.open(MNT + "/log", os.O_RDWR | os.O_APPEND)
with open(HOST + "/log", "ab") as f:
    f.write(b"host\n")
os.write(fd, b"guest\n")
same("size", len(data) + 11, os.fstat(fd).st_size)
same("read back through the same descriptor", b"host\nguest\n", os.pread(fd, 100, len(data)))
os.close(fd)
umount_vfs(second)
