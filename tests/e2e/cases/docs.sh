#!/bin/bash
# The documents say what is: --help, the man pages, README and the package list agree, links lead somewhere.
# timeout: 60
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
top=$VFS_TOP
man=$VFS_BUILD/man

note "every option of --help is in the man page, and the other way round"
"$VFS_BIN/vsockfs" --help | awk '/^Options of -o:/ { on = 1; next } /^[A-Z]/ { on = 0 } on { sub(/=.*/, "", $1); print $1 }' |
	sort >"$VFS_TMP/help"
"$VFS_BIN/vsockfsd" --help | awk '$1 ~ /^--/ { sub(/=.*/, "", $1); print $1 }' | sort >"$VFS_TMP/help.d"
awk '/^\.It Cm [a-z_]+( Ns = |$)/ { print $3 }' "$man/vsockfs.8" | sort >"$VFS_TMP/man"
awk '/^\.It Fl -/ { print "-" $3 }' "$man/vsockfsd.8" | sort >"$VFS_TMP/man.d"
[ "$(wc -l <"$VFS_TMP/help")" -gt 15 ] || fail "only $(wc -l <"$VFS_TMP/help") options found in vsockfs --help"
[ "$(wc -l <"$VFS_TMP/help.d")" -gt 5 ] || fail "only $(wc -l <"$VFS_TMP/help.d") options found in vsockfsd --help"
must diff "$VFS_TMP/help" "$VFS_TMP/man"
must diff "$VFS_TMP/help.d" "$VFS_TMP/man.d"

note "every view, verb and figure is in the man page of vfsstat"
"$VFS_BIN/vfsstat" --help | awk '$1 ~ /^--/ { sub(/\[.*/, "", $1); print $1 } /^VERB:/ { on = 1 } on && /^    [a-z]/ { print $1 }' |
	sort >"$VFS_TMP/help.s"
awk '/^\.It Fl -/ { print "-" $3 } /^\.It Ic [a-z]+ Ar/ { print $3 }' "$man/vfsstat.8" | sort >"$VFS_TMP/man.s"
[ "$(wc -l <"$VFS_TMP/help.s")" -gt 10 ] || fail "only $(wc -l <"$VFS_TMP/help.s") views and verbs found in vfsstat --help"
must diff "$VFS_TMP/help.s" "$VFS_TMP/man.s"
"$VFS_BIN/vfsstat" --list | awk '$2 != "op" { print $1 }' | sort >"$VFS_TMP/list"
awk '/^\.It Pa [a-z_.]+ Pq/ { print $3 }' "$man/vfsstat.8" | sort >"$VFS_TMP/figures"
must diff "$VFS_TMP/list" "$VFS_TMP/figures"

note "README names no option that does not exist"
sed -n '/^| option | meaning/,/^$/p' "$top/README.md" | grep -o '`[a-z_]*[=`]' | tr -d '`=' | sort -u >"$VFS_TMP/readme"
[ "$(wc -l <"$VFS_TMP/readme")" -ge 8 ] || fail "the option table of README.md was not found"
while read -r option; do
	grep -qx "$option" "$VFS_TMP/help" || grep -q -- "\\b$option\\b" "$man/vsockfs.8" ||
		fail "README.md tells of an option $option, which vsockfs.8 does not know"
done <"$VFS_TMP/readme"

note "the packages that README names for the build are those that get installed"
sed -n '/^## What it needs/,/^## Where/p' "$top/README.md" | grep '^| `' | cut -d'|' -f2 | grep -o '`[^`]*`' | tr -d '`' |
	sort -u >"$VFS_TMP/named"
awk '/^\[/ { section = $1 } section ~ /build|quick|test/ && /^[a-z]/ { print $1 }' "$top/scripts/packages" | sort -u >"$VFS_TMP/installed"
must test -s "$VFS_TMP/named"
comm -23 "$VFS_TMP/named" "$VFS_TMP/installed" >"$VFS_TMP/missing"
same "packages in README.md that scripts/packages lacks" '' "$(tr '\n' ' ' <"$VFS_TMP/missing")"

note "files that the documents point to are there"
for doc in README.md ARCHITECTURE.md HACKING.md doc/protocol.md doc/coherence.md doc/security.md; do
	must test -s "$top/$doc"
	grep -oE '`(src|tools|tests|doc|scripts|cmake)/[A-Za-z0-9_./-]+`' "$top/$doc" | tr -d '`' | sort -u |
		while read -r path; do
			case $path in *MODULE* | */build/*) continue ;; esac
			[ -e "$top/$path" ] || fail "$doc points to $path, which is not there"
		done
done
