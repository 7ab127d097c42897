#!/usr/bin/python3
# Commits checked out one after another on the host: after a fence each, git status and the content of every file are in
# the guest what they are on the host. Generated repositories; with VFS_REPOS=PATH[:PATH] recent commits of those too.
# timeout: 300
# needs: git
import hashlib
import os
import random
import stat
import subprocess
import sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import HOST, MNT, check, fence, same

COMMITS = 30
RECENT = 60  # commits of a real repository


def git(at, *args):
    return subprocess.run(["git", "-C", at, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "gc.auto=0",
                           "-c", f"safe.directory={os.path.realpath(at)}", *args],
                          check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout.decode(errors="replace")


def generate(at, seed):
    """Commits that add, change, rename, remove; change modes and types; with symlinks, CRLF and directories that
    become files."""
    rng = random.Random(seed)
    os.mkdir(at)
    git(at, "init", "-q", "-b", "main")
    if seed % 2:
        git(at, "config", "core.autocrlf", "false")

    def files():
        return git(at, "ls-files", "-z").split("\0")[:-1]

    def put(name, data):
        path = f"{at}/{name}"
        if os.path.lexists(os.path.dirname(path)) and not os.path.isdir(os.path.dirname(path)):
            os.unlink(os.path.dirname(path))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "wb") as f:
            f.write(data)

    def text():
        end = rng.choice((b"\n", b"\n", b"\r\n"))
        return b"".join(b"line %d %x" % (i, rng.getrandbits(64)) + end for i in range(rng.choice((1, 20, 300, 3000))))

    for n in range(COMMITS):
        for _ in range(40 if n == 0 else 0):
            put(f"dir{rng.randrange(6)}/sub{rng.randrange(3)}/file{rng.randrange(20)}", text())
        for _ in range(rng.randrange(3, 12)):
            git(at, "add", "-A")
            known = files()
            name = rng.choice(known)
            what = rng.randrange(9)
            if what == 0:
                put(f"dir{rng.randrange(8)}/new{n}-{rng.randrange(99)}", text())
            elif what == 1 and len(known) > 20:
                os.unlink(f"{at}/{name}")
            elif what == 2:
                os.rename(f"{at}/{name}", f"{at}/moved{n}-{rng.randrange(99)}")
            elif what == 3 and not os.path.islink(f"{at}/{name}"):
                os.chmod(f"{at}/{name}", 0o755 if rng.randrange(2) else 0o644)
            elif what == 4:
                link = f"{at}/{name}"
                os.unlink(link)
                os.symlink(rng.choice(known), link)
            elif what == 5:
                top = name.split("/")[0]
                if os.path.isdir(f"{at}/{top}"):
                    os.rename(f"{at}/{top}", f"{at}/{top}-{n}")
            elif what == 6 and "/" in name and len(known) > 30:  # a directory becomes a file
                top = os.path.dirname(name)
                subprocess.run(["rm", "-rf", f"{at}/{top}"], check=True)
                put(top, text())
            else:
                put(name, text())
        git(at, "add", "-A")
        git(at, "commit", "-q", "--allow-empty", "-m", f"commit {n}")


def contents(at):
    """{path: type, mode, target or hash} of the working tree."""
    found = {}
    for d, dirs, files in os.walk(at):
        if ".git" in dirs:
            dirs.remove(".git")
        for name in dirs + files:
            path = f"{d}/{name}"
            st = os.lstat(path)
            what = ""
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = hashlib.file_digest(f, "sha256").hexdigest()
            found[path[len(at):]] = (oct(st.st_mode), st.st_size if what else 0, what)
    return found


def compare(name, what):
    host, mnt = contents(f"{HOST}/{name}"), contents(f"{MNT}/{name}")
    wrong = [f"{p}: {host.get(p)} on the host, {mnt.get(p)} in the mount" for p in sorted(host.keys() | mnt.keys())
             if host.get(p) != mnt.get(p)]
    check(not wrong, f"{what}: {len(wrong)} differ: " + "; ".join(wrong[:5]))
    return len(host)


def go_through(name, commits):
    looked = 0
    for turn in (commits, list(reversed(commits))):
        for commit in turn:
            git(f"{HOST}/{name}", "checkout", "-q", "-f", "--detach", commit)
            fence(MNT)
            what = f"{name} at {commit[:10]}"
            # The host's own git would mend the index that the guest's is to judge.
            same(f"{what}: git status in the mount", "", git(f"{MNT}/{name}", "status", "--porcelain"))
            same(f"{what}: HEAD", commit, git(f"{MNT}/{name}", "rev-parse", "HEAD").strip())
            same(f"{what}: git diff", "", git(f"{MNT}/{name}", "diff", "HEAD", "--stat"))
            looked += compare(name, what)
    check(looked > len(commits), f"{name}: nothing to compare")
    print(f"# {name}: {2 * len(commits)} checkouts, {looked} files and directories compared", flush=True)


for seed in (1, 2):
    generate(f"{HOST}/generated{seed}", seed)
    go_through(f"generated{seed}", git(f"{HOST}/generated{seed}", "rev-list", "--reverse", "HEAD").split())
for i, path in enumerate(filter(None, os.environ.get("VFS_REPOS", "").split(":"))):
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", path, f"{HOST}/real{i}"], check=True,
                   stdin=subprocess.DEVNULL)
    go_through(f"real{i}", git(f"{HOST}/real{i}", "rev-list", "--reverse", f"-n{RECENT}", "HEAD").split())
