#!/usr/bin/env python3
# What the guest removes is free on the host when its last user has closed it, and the guest's statfs says so at once.
# timeout: 120
# mounts: none
import mmap
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.environ["VFS_E2E"])
from lib import *

SIZE = 8 << 20
if BIND:
    skip("the stand-in has no statfs of ours")
if os.geteuid() != 0:
    skip("no mounting without privileges")
host, guest = TMP + "/host", TMP + "/guest"
os.mkdir(host)
# A file system of its own: nobody else takes or gives space there.
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", host], check=True)


def free(path):
    return os.statvfs(path).f_bfree


def make(name, at=None):
    put(f"{at or guest}/{name}", b"x" * SIZE)


def read(name):
    same("size", SIZE, len(get(f"{guest}/{name}")))


def after_reading():
    make("f")
    read("f")  # keeps a descriptor of the server for the next open
    os.unlink(guest + "/f")


def written():
    make("f")
    os.unlink(guest + "/f")


def open_for(flags):
    make("f")
    fd = os.open(guest + "/f", flags)
    os.unlink(guest + "/f")
    check(free(guest) < before, "what is open is not free")
    os.close(fd)


def mapped():
    make("f")
    fd = os.open(guest + "/f", os.O_RDWR)
    m = mmap.mmap(fd, SIZE)
    os.close(fd)
    m[0] = 1
    os.unlink(guest + "/f")
    check(free(guest) < before, "what is mapped is not free")
    m.close()


def replaced():
    make("f")
    read("f")
    put(guest + "/e", b"")
    os.rename(guest + "/e", guest + "/f")
    os.unlink(guest + "/f")


def all_names():
    make("f")
    os.link(guest + "/f", guest + "/l")
    read("l")
    os.unlink(guest + "/f")
    read("l")
    os.unlink(guest + "/l")


def truncated():
    make("f")
    os.truncate(guest + "/f", 0)
    os.unlink(guest + "/f")


def with_its_directory():
    os.makedirs(guest + "/d/e")
    for i in range(5):
        make(f"d/e/{i}")
        read(f"d/e/{i}")
    shutil.rmtree(guest + "/d")


def by_the_host():
    make("f", host)
    bash(f'fence "{guest}"')
    read("f")
    os.unlink(host + "/f")


for options in ("", "no_open", "locks=local", "cache=ttl"):
    bash('mount_vfs "$1" "$2" "$3"', f"dir:{host}", guest, options)
    before = free(host)
    for what in (after_reading, written, lambda: open_for(os.O_RDONLY), lambda: open_for(os.O_RDWR), mapped, replaced,
                 all_names, truncated, with_its_directory, by_the_host):
        if what is by_the_host and options == "cache=ttl":
            continue
        what()
        wait_for(lambda: free(host) >= before, 5, f"{what.__name__}: free on the host, {options}")
        if what is not by_the_host:  # of that the guest hears with the next sign of life
            same(f"{what.__name__}: free in the guest, {options}", before, free(guest))
    umount_vfs(guest)
subprocess.run(["umount", host], check=True)
