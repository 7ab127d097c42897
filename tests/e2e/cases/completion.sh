#!/bin/bash
# The completion knows every option, view and verb of the tables.
# timeout: 60
# mounts: none
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat

export PATH=$VFS_BIN:$PATH
# shellcheck source=dist/completion/vsockfs.bash
. "$VFS_TOP/dist/completion/vsockfs.bash"

# completed PROGRAM WORD... : what is offered for the last word
completed() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	COMPREPLY=()
	"_$1" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null || :
	printf '%s\n' "${COMPREPLY[@]}"
}
# names MACRO FILE : the first argument of each line of a table
names() { grep -oE "^$1\(\"[^\"]+" "$VFS_TOP/tools/$2" | sed 's/.*"//'; }
# offers WORD PROGRAM ARGUMENT...
offers() {
	local word=$1
	shift
	# grep -q may end before what it reads from, which then fails
	completed "$@" | grep -xE -- "$word=?" >/dev/null ||
		fail "'$*' does not complete to $word: $(completed "$@" | tr '\n' ' ')"
}

note "every mount option"
for name in $(names MOUNT_OPTION vsockfs_options.def); do
	offers "$name" vsockfs dir:/x /y -o "${name:0:2}"
done
offers ro,xattr vsockfs dir:/x /y -o ro,xa
note "every option of the server"
for name in $(names SERVER_OPTION vsockfsd_options.def); do
	offers "$name" vsockfsd "${name:0:4}"
done
note "every view and every verb"
for name in $(names STAT_VIEW vfsstat_options.def); do
	offers "--$name" vfsstat "--${name:0:1}"
done
for name in $(names STAT_VERB vfsstat_options.def); do
	offers "$name" vfsstat "${name:0:1}"
done
offers --everything vfsstat drop --e
offers off vfsstat trace o
