#!/bin/bash
# A day of git in the mount: clone, branch, edit with vim, commit, rebase, merge, stash, gc, fsck.
# timeout: 120
# as: root mapped
# needs: git vim
set -euo pipefail
. "$VFS_E2E/lib.sh"

export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_CONFIG_NOSYSTEM=1
git config --global init.defaultBranch main
git config --global gc.autoDetach false

note "the repository to clone: 40 commits over 300 files, made beside the mount"
origin=$VFS_TMP/origin
git init -q "$origin"
for i in $(seq 300); do
	mkdir -p "$origin/src/dir$((i % 17))"
	printf 'line one of file %d\nline two\nline three\n' "$i" >"$origin/src/dir$((i % 17))/file$i.txt"
done
printf '#!/bin/sh\necho run\n' >"$origin/run.sh"
chmod +x "$origin/run.sh"
ln -s src/dir1/file1.txt "$origin/link"
git -C "$origin" add -A
git -C "$origin" commit -qm first
for i in $(seq 39); do
	echo "change $i" >>"$origin/src/dir$((i % 17))/file$i.txt"
	git -C "$origin" commit -qam "change $i"
done

note "clone"
cd "$VFS_MNT"
must git clone -q "$origin" work
cd work
same 'status of a fresh clone' '' "$(git status --porcelain)"
same 'executable' 755 "$(stat -c %a run.sh)"
same 'symlink' src/dir1/file1.txt "$(readlink link)"
same 'files' 302 "$(git ls-files | wc -l)"

if [ "$VFS_AS" = mapped ] && ! is_bind; then
	note "without uid= the same directory is somebody else's, and git says so"
	mount_again "$VFS_TMP/unmapped"
	refused 'dubious ownership' git -C "$VFS_TMP/unmapped/work" status
	umount_vfs "$VFS_TMP/unmapped"
fi

edit() { # edit FILE COMMAND : vim as it saves by default, swap file included
	local before
	before=$(stat -c %a "$1")
	must timeout $((30 * VFS_SLOW)) vim -N -u NONE -i NONE -es -c "$2" -c wq "$1"
	same "mode of $1 after vim" "$before" "$(stat -c %a "$1")"
	same "what vim leaves beside $1" '' "$(find "$(dirname "$1")" -name '.*.sw?' -o -name '*~' -o -name 4913)"
}

note "branch, edit with vim, commit"
git checkout -qb topic
edit src/dir1/file1.txt '%s/line one/LINE ONE/'
same 'edited' 'LINE ONE of file 1' "$(head -n 1 src/dir1/file1.txt)"
same 'edited, on the host' 'LINE ONE of file 1' "$(head -n 1 "$VFS_HOST/work/src/dir1/file1.txt")"
edit run.sh '2s/run/ran/'
same 'status' $' M run.sh\n M src/dir1/file1.txt' "$(git status --porcelain)"
must git commit -qam 'edit with vim'
for i in 2 3 4; do
	edit "src/dir$i/file$i.txt" "\$s/\$/ edited $i/"
	git mv "src/dir$i/file$i.txt" "src/moved$i.txt"
	must git commit -qam "edit and move $i"
done

note "the other side moves on; rebase onto it, squash, amend"
git checkout -q main
edit src/dir5/file5.txt '1s/^/main: /'
must git commit -qam 'main goes on'
git checkout -q topic
must git rebase -q main
same 'commits on top of main' 4 "$(git rev-list --count main..topic)"
GIT_SEQUENCE_EDITOR='sed -i 2,9s/^pick/fixup/' must git rebase -q -i main
same 'squashed' 1 "$(git rev-list --count main..topic)"
must git commit -q --amend -m 'all of it'

note "a conflict is a conflict"
git checkout -q -b other main
edit src/dir1/file1.txt '%s/line one/other/'
must git commit -qam 'other'
refused 'CONFLICT' git merge topic
same 'unmerged' 'UU src/dir1/file1.txt' "$(git status --porcelain | grep '^UU')"
must git merge --abort

note "stash, tag, worktree, archive, clean"
echo more >>src/dir6/file6.txt
must git stash -q
same 'stashed' '' "$(git status --porcelain)"
must git stash pop -q
same 'popped' ' M src/dir6/file6.txt' "$(git status --porcelain)"
must git checkout -q -- .
must git tag -a -m v1 v1 topic
must git worktree add -q "$VFS_MNT/second" topic
same 'second work tree' 'LINE ONE of file 1' "$(head -n 1 "$VFS_MNT/second/src/dir1/file1.txt")"
must git archive -o "$VFS_MNT/v1.tar" v1
must git clean -fdxq
must git push -q origin topic

note "gc, fsck, and the host agrees"
must git gc -q --prune=now
must git fsck --full --strict
same 'loose objects' 0 "$(git count-objects | cut -d' ' -f1)"
same 'status' '' "$(git status --porcelain)"
must git -c safe.directory='*' -C "$VFS_HOST/work" fsck --full
same 'status on the host' '' "$(git -c safe.directory='*' -C "$VFS_HOST/work" status --porcelain)"
same_trees
