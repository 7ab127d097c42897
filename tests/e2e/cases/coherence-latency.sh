#!/bin/bash
# How long a change on the host takes to show in the guest; each shows within a second. Figures: run with -v.
# timeout: 120
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test bench/latency
fenced=()
is_bind || [ "$VFS_CACHE" ] || fenced=(--fence)
"$VFS_TESTS/bench/latency" "${fenced[@]}" 200 "$VFS_HOST" "$VFS_MNT" >latency.said 2>&1 || fail "$(cat latency.said)"
note "$(cat latency.said)"
