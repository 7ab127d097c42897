#!/bin/bash
# Host and two mounts change the same names; after a fence, and when all is quiet, both mounts show what the host has.
# timeout: 3600
# as: root user
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/torture
! is_bind || [ "$VFS_AS" = root ] || skip "a second bind mount is root's to make"
flags=(--settle "fence,quiet")
! is_bind || flags=(--settle none)
# A mount that is held up by its own request in the same directory acknowledges before it has applied a change.
flags+=(--late-ms $((1000 * VFS_SLOW)) --own-late-ms $((100 * VFS_SLOW)))
# Two embedded servers hear of each other's changes as the host's: soon, not at once.
[ "$VFS_TRANSPORT" != dir ] || flags+=(--separate-servers)
# A server that watches by directory hears nothing of other names of a file.
[ "$VFS_AS" = root ] || flags+=(--any-links)
[[ ,$VFS_OPTIONS, != *,no_open,* ]] || flags+=(--no-open)
mount_again "$VFS_TMP/second"
for guests in '' --guest-writers; do
	# VFS_TORTURE_SECONDS: tests/coherence/run
	"$VFS_TESTS/coherence/torture" "${flags[@]}" $guests --seed "${VFS_TORTURE_SEED:-1}" \
		--seconds "${VFS_TORTURE_SECONDS:-10}" "$VFS_HOST" "$VFS_MNT" "$VFS_TMP/second" >torture.said ||
		fail "$(cat torture.said)"
	note "$(tail -n 4 torture.said)"
	find "$VFS_HOST" -mindepth 1 -delete
done
umount_vfs "$VFS_TMP/second"
