#!/usr/bin/python3
# Look-ups and listings in one directory go to the host side by side (FUSE_PARALLEL_DIROPS): while the server is held, all of
# them have been sent. Several that want one name share a request, and what comes back is right for each.
# timeout: 60
# mounts: none
import os
import signal
import subprocess
import sys
import threading
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIN, HOST, TMP, bash, check, counter, fence, same, umount_vfs, wait_for

THREADS, STATS, AT = 16, TMP + "/stats", TMP + "/mnt"


def sent():
    return counter("rpc.requests", STATS)


def held(server, calls, requests, what):
    """Starts all calls while the server is stopped, and waits until `requests` have been sent; their results."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = calls[i]()
        except OSError as e:
            results[i] = e.errno

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    server.send_signal(signal.SIGSTOP)
    try:
        before = sent()
        for t in threads:
            t.start()
        wait_for(lambda: sent() - before >= requests, 5, f"{what}: {requests} requests in flight")
        most = sent() - before
    finally:
        server.send_signal(signal.SIGCONT)
    for t in threads:
        t.join()
    return results, most


os.mkdir(f"{HOST}/d")
for i in range(THREADS):
    with open(f"{HOST}/d/there{i}", "w") as f:
        f.write("x" * i)
server = subprocess.Popen([BIN + "/vsockfsd", "--listen", f"unix:{TMP}/s", HOST], stdin=subprocess.DEVNULL)
try:
    wait_for(lambda: os.path.exists(TMP + "/s"), 10, "the server listens")
    bash('mount_vfs "$1" "$2" "$3"', f"unix:{TMP}/s", AT, f"lease=600,list_after=0,stats={STATS}")
    os.stat(f"{AT}/d")
    there, most = held(server, [lambda i=i: os.stat(f"{AT}/d/there{i}").st_size for i in range(THREADS)], THREADS,
                       "look-ups of names that are there")
    same("sizes", list(range(THREADS)), there)
    missing, most = held(server, [lambda i=i: os.stat(f"{AT}/d/missing{i}") for i in range(THREADS)], THREADS,
                         "look-ups of missing names")
    same("missing names", {2}, set(missing))
    one, most = held(server, [lambda: os.stat(f"{AT}/d/the same") for i in range(THREADS)], 1, "look-ups of one missing name")
    same("one missing name", {2}, set(one))
    same("requests for one missing name", 1, most)
    for name in ("late", "later"):
        open(f"{HOST}/d/{name}", "w").close()  # no listing is complete
    fence(AT)
    both, most = held(server, [lambda: sorted(os.listdir(f"{AT}/d")), lambda: sorted(os.listdir(f"{AT}/d")),
                               lambda: os.stat(f"{AT}/d/other")], 3, "two listings and a look-up")
    names = sorted(os.listdir(f"{HOST}/d"))
    same("both listings and the look-up", [names, names, 2], both)
    before = sent()
    same("listed again", names, sorted(os.listdir(f"{AT}/d")))
    check(sent() - before <= 1, "two listings at once, and none of them is kept")
    umount_vfs(AT)
finally:
    server.send_signal(signal.SIGCONT)
    server.terminate()
    server.wait()
