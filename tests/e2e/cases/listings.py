#!/usr/bin/python3
# Listings as on the host's own file system: a directory that the host removes meanwhile ends, whoever gives one up leaves
# nothing half done, rewinddir sees what is new, seekdir goes to any offset that was told; and no name gets lost while the
# host changes modes. With each cache, and with offsets that were never told.
# timeout: 240
# as: root user
import ctypes
import os
import random
import shutil
import struct
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import BIND, CACHE, HOST, TMP, check, counter, fence, mount_again, same, skip, umount_vfs

NAMES = 600
libc = ctypes.CDLL(None, use_errno=True)


def getdents(fd, size=1024):
    """(name, offset behind it) of some entries; none at the end. An error is raised, but ENOENT: as on a removed directory."""
    buffer = ctypes.create_string_buffer(size)
    got, entries, at = libc.syscall(217, fd, buffer, size), [], 0
    if got < 0 and ctypes.get_errno() != 2:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    while at < got:
        _, off, length = struct.unpack_from("<QqH", buffer.raw, at)
        entries.append((buffer.raw[at + 19:at + length].split(b"\0")[0].decode(), off))
        at += length
    return entries


def rest(fd, size=1024):
    entries = []
    while some := getdents(fd, size):
        entries += some
    return entries


def names(entries):
    return [name for name, _ in entries]


def opened(path):
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def fill(name, count=NAMES):
    os.mkdir(f"{HOST}/{name}")
    for i in range(count):
        open(f"{HOST}/{name}/name-{i:05}", "w").close()


def changes_of_modes(at, leased):
    """The server says that attributes changed, and nodes of the first batches are let go: their names are there."""
    fill("modes")
    fence(at)
    fd = opened(f"{at}/modes")
    listed = getdents(fd) + getdents(fd) + getdents(fd)
    for i in range(NAMES):
        os.chmod(f"{HOST}/modes/name-{i:05}", 0o640)
    if leased:
        fence(at)
    listed += rest(fd, 32768)
    os.close(fd)
    there = sorted(os.listdir(f"{HOST}/modes"))
    same("listed", there, sorted(set(names(listed)) - {".", ".."}))
    same("lost", [], [n for n in there if not os.path.lexists(f"{at}/modes/{n}")])
    shutil.rmtree(f"{HOST}/modes")


def removed(at, leased):
    for taken in (0, 1, 4):
        for again in ("on", "rewind", "seek"):
            fill("gone", 120)
            fence(at)
            fd = opened(f"{at}/gone")
            first = [e for _ in range(taken) for e in getdents(fd)]
            shutil.rmtree(f"{HOST}/gone")
            if leased:
                fence(at)
            if again == "rewind":
                os.lseek(fd, 0, os.SEEK_SET)
            elif again == "seek" and first:
                os.lseek(fd, first[len(first) // 2][1], os.SEEK_SET)
            left = rest(fd)
            if leased:
                check(len(left) == 0 or names(left) == [".", ".."], f"{len(left)} entries of a directory that was removed")
            same("at the end", [], getdents(fd))
            os.close(fd)


def given_up(at, leased):
    fill("left")
    fence(at)
    for _ in range(4):
        fd = opened(f"{at}/left")
        getdents(fd, 4096)
        os.close(fd)
        same("a name after a listing that was given up", True, os.path.lexists(f"{at}/left/name-00599"))
        same("one that is not there", False, os.path.lexists(f"{at}/left/name-00600"))
    fd = opened(f"{at}/left")
    getdents(fd, 4096)
    open(f"{HOST}/left/new", "w").close()
    if leased:
        fence(at)
    os.lseek(fd, 0, os.SEEK_SET)
    found = names(rest(fd))
    same("names after rewinddir", NAMES + 3, len(found))
    check("new" in found, "rewinddir does not show what is new")
    os.close(fd)


def seeks(at, leased):
    fd = opened(f"{at}/left")
    entries = rest(fd)
    order = names(entries)
    chance = random.Random(5)
    for _ in range(100):
        i = chance.randrange(len(entries))
        os.lseek(fd, entries[i][1], os.SEEK_SET)
        some = names(getdents(fd, 4096))
        same(f"behind entry {i}", order[i + 1:i + 1 + len(some)], some)
        check(some or i == len(entries) - 1, f"nothing behind entry {i}")
    # and back to the beginning: each once
    os.lseek(fd, 0, os.SEEK_SET)
    same("from the beginning", order, names(rest(fd)))
    os.close(fd)


def strange_offsets(at, stats):
    """On what cannot be told beforehand there is no more than that it ends, with names that are there and none twice."""
    fd = opened(f"{at}/left")
    told = {off for _, off in rest(fd)}
    all_names = set(os.listdir(f"{HOST}/left")) | {".", ".."}
    before, sent = counter("rpc.requests", stats), counter("rpc.bytes_received", stats)
    chance, most = random.Random(7), max(told)
    for _ in range(200):
        off = chance.randrange(1, most)
        os.lseek(fd, off, os.SEEK_SET)
        try:
            some = names(getdents(fd, 1024))
        except OSError as e:
            same("errno", 22, e.errno)  # ext4's own, of a directory without a hash tree
            continue
        check(set(some) <= all_names and len(set(some)) == len(some), f"{off}: {some}")
    os.close(fd)
    return counter("rpc.requests", stats) - before, counter("rpc.bytes_received", stats) - sent


if BIND:
    skip("the stand-in is the host's own file system")
for i, options in enumerate(["", "no_open", "cache=ttl", "cache=none"]):
    at, stats = f"{TMP}/mnt{i}", f"{TMP}/stats{i}"
    leased = "cache" not in options and not CACHE
    mount_again(at, f"stats={stats}" + (f",{options}" if options else ""))
    if leased or i >= 2:
        changes_of_modes(at, leased)
    removed(at, leased)
    given_up(at, leased)
    seeks(at, leased)
    requests, received = strange_offsets(at, stats)
    print(f"{options or 'default'}: {requests} requests and {received} bytes for 200 strange offsets", flush=True)
    check(received < 200 * 8192, f"{received} bytes for 200 strange offsets")
    umount_vfs(at)
    shutil.rmtree(f"{HOST}/left")
