#!/bin/bash
# A file that grows on the host while several processes in the mount read its end: nobody ever reads a NUL, and after
# a fence all of it shows. Where it is made shorter too, or the mount itself forces sizes on the kernel, it is right again
# after a moment.
# timeout: 600
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/grow
count=${VFS_GROW_COUNT:-$((200 / VFS_SLOW))}
fenced=()
if is_bind || [ "$VFS_CACHE" ]; then
	fenced=(--no-fence)
fi
for changes in '' truncate chmod link; do
	"$VFS_TESTS/coherence/grow" "${fenced[@]}" ${changes:+--changes "$changes"} "$count" "$VFS_HOST" "$VFS_MNT" \
		>grow.said 2>&1 || fail "$changes: $(cat grow.said)"
	note "${changes:-nothing else}: $(cat grow.said)"
done
