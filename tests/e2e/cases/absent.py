#!/usr/bin/python3
# A peer that is not there or does not answer: the mount that never comes about ends in its time, by a signal at once, with
# one line that says why, and leaves nothing behind. A virtio-serial port is in tests/unit/test_absent.c.
# timeout: 120
# mounts: none
import os
import signal
import socket
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
sys.dont_write_bytecode = True
from lib import BIN, SLOW, TMP, bash, check, same, wait_for

os.chdir(TMP)
os.mkdir("mnt")
os.mkdir("src")
HOURS = 36000


def vsockfs(source, timeout, *more, **kind):
    return subprocess.Popen([BIN + "/vsockfs", source, TMP + "/mnt", "-o", f"connect_timeout={timeout}", *more],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **kind)


def ended(client, says, lines=1):
    """With one line for the reason; within a deadline that is the case's, not the client's."""
    try:
        _, said = client.communicate(timeout=60 * SLOW)
    except subprocess.TimeoutExpired:
        client.kill()
        check(False, f"{client.args} goes on")
    same(f"exit code of {client.args}", 1, client.returncode)
    check(says in said, f"'{says}' is to be in what it said: {said!r}")
    same("lines", lines, said.count("\n"))
    check(not os.path.ismount("mnt"), "it mounted all the same")
    bash('wait_for 10 no_clients_of "$1"', TMP + "/mnt")


class Listener:
    """Accepts what it is told to, and says nothing."""

    def __init__(self, path, backlog):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(backlog)

    def accept(self):
        peer, _ = self.sock.accept()
        peer.recv(1, socket.MSG_WAITALL)        # what it asks for has arrived: it waits
        return peer


full, silent = Listener("full", 0), Listener("silent", 8)
waiting = socket.socket(socket.AF_UNIX)
waiting.connect("full")
ours, theirs = socket.socketpair()
fd = {"pass_fds": [ours.fileno()]}

# In its time.
ended(vsockfs("unix:full", 1), "accepts nobody")
ended(vsockfs("unix:silent", 1), "does not answer", 2)          # and that it tried the plain protocol
ended(vsockfs("unix:silent", 1, "-o", "proto=extended"), "silent when greeted")
ended(vsockfs(f"fd:{ours.fileno()}", 1, **fd), "nobody is behind it, or")
ended(vsockfs(f"fd:{ours.fileno()}", 1, "-o", "proto=plain", **fd), "does not answer")

# By a signal, in the foreground and in the background, where the parent is the one that is known.
while True:                                                     # those of above are in the queue still
    silent.sock.setblocking(False)
    try:
        silent.sock.accept()[0].close()
    except BlockingIOError:
        silent.sock.setblocking(True)
        break
for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
    for flags in [], ["-f"]:
        client = vsockfs("unix:silent", HOURS, "-o", "proto=extended", *flags)
        peer = silent.accept()
        client.send_signal(number)
        ended(client, "stopped by a signal")
        same("what the other side sees", b"", peer.recv(1) if peer.recv(65536) else b"")
        peer.close()


def greeting_on_fd():
    ours, theirs = socket.socketpair()
    client = vsockfs(f"fd:{ours.fileno()}", HOURS, pass_fds=[ours.fileno()])
    ours.close()
    theirs.recv(1, socket.MSG_WAITALL)
    return client, theirs


client, peer = greeting_on_fd()
client.send_signal(signal.SIGTERM)
ended(client, "stopped by a signal")

# One that goes while it is greeted.
client, peer = greeting_on_fd()
peer.close()
ended(client, "closed the connection")
