#!/bin/bash
# npm install of a package from the registry that npm is set up for; skipped where it cannot be reached.
# timeout: 180
# mounts: unix
# as: root mapped
# needs: npm node
set -euo pipefail
. "$VFS_E2E/lib.sh"
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false
timeout 30 npm view semver@7.5.0 version --fetch-retries=0 --fetch-timeout=20000 </dev/null >"$VFS_TMP/npm" 2>&1 ||
	skip "npm's registry cannot be reached: $(grep -m 1 -o 'code .*' "$VFS_TMP/npm" || echo 'no answer')"
cd "$VFS_MNT"
must npm init -y
must npm install semver@7.5.0 mkdirp@1.0.4
same 'what was installed' 7.5.0 "$(node -p 'require("semver/package.json").version')"
same 'its program' 1.3.0 "$(node_modules/.bin/semver -i minor 1.2.3)"
must node_modules/.bin/mkdirp deep/er/still
must test -d "$VFS_HOST/deep/er/still"
must npm ls --all
same_trees
