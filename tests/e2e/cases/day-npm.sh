#!/bin/bash
# npm install of a tree of local packages: many small files, nested packages, .bin links, a rebuild, a removal.
# timeout: 240
# as: root mapped
# needs: npm node tar
set -euo pipefail
. "$VFS_E2E/lib.sh"
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_offline=true
npm_quiet() { npm "$@" </dev/null >"$VFS_TMP/npm" 2>&1 || fail "npm $*: $(grep -v '^$' "$VFS_TMP/npm" | tail -n 5)"; }

note "40 packages of 30 files, each with a program and a bundled package of its own"
tarballs=$VFS_TMP/tarballs
mkdir "$tarballs"
for i in $(seq 40); do
	p=$VFS_TMP/pack/package
	rm -rf "$p"
	mkdir -p "$p/lib" "$p/node_modules/inner"
	for j in $(seq 28); do
		echo "module.exports = $j; // of package $i" >"$p/lib/part$j.js"
	done
	cat >"$p/package.json" <<-END
		{ "name": "local-$i", "version": "1.0.0", "main": "index.js", "bin": { "run-$i": "cli.js" },
		  "dependencies": { "inner": "1.0.$i" }, "bundleDependencies": ["inner"] }
	END
	echo "module.exports = () => require('inner') + require('./lib/part7');" >"$p/index.js"
	printf '#!/usr/bin/env node\nconsole.log("program %d says", require("./")());\n' "$i" >"$p/cli.js"
	echo "{ \"name\": \"inner\", \"version\": \"1.0.$i\" }" >"$p/node_modules/inner/package.json"
	echo "module.exports = $i * 1000;" >"$p/node_modules/inner/index.js"
	tar -C "$VFS_TMP/pack" -czf "$tarballs/local-$i-1.0.0.tgz" package
done

cd "$VFS_MNT"
mkdir app
cd app
{
	echo '{ "name": "app", "version": "1.0.0", "scripts": { "all": "run-3 && run-40" }, "dependencies": {'
	for i in $(seq 40); do
		echo "\"local-$i\": \"file:../tarballs/local-$i-1.0.0.tgz\"$([ "$i" = 40 ] || echo ,)"
	done
	echo '} }'
} >package.json
cp -r "$tarballs" "$VFS_MNT/"

note "npm install"
npm_quiet install
same 'packages' 40 "$(find node_modules -maxdepth 1 -name 'local-*' | wc -l)"
same 'files of packages' 1320 "$(find node_modules/local-* -type f | wc -l)"
must test -L node_modules/.bin/run-7
same 'a program' 'program 7 says 7007' "$(node_modules/.bin/run-7)"
same 'npm run' $'program 3 says 3007\nprogram 40 says 40007' "$(npm run -s all)"
npm_quiet ls --all
same_trees

note "npm ci from the lock file, uninstall, dedupe"
npm_quiet ci
same 'a program after npm ci' 'program 9 says 9007' "$(node_modules/.bin/run-9)"
npm_quiet uninstall local-5 local-6
must gone node_modules/local-5
must gone node_modules/.bin/run-5
same 'packages left' 38 "$(find node_modules -maxdepth 1 -name 'local-*' | wc -l)"
same_trees

note "rm -rf node_modules"
rm -rf node_modules
must gone "$VFS_HOST/app/node_modules"
same_trees
