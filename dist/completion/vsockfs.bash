# Completion of vsockfs, vsockfsd and vfsstat for bash; in zsh after `autoload -U bashcompinit && bashcompinit`.
# What can be completed is read from --help, which the programs make from their option tables.
# Mountpoints come from the mount table: nothing here touches a mount.

_vsockfs_words() { # PROGRAM PATTERN: what matches in its help
	"$1" --help 2>/dev/null | grep -oE -- "$2"
}

_vsockfs_mounts() { awk '/ - fuse\.vsockfs / { gsub(/\\040/, " ", $5); print $5 }' /proc/self/mountinfo; }

_vsockfs_reply() { # WORDS: those that begin with $cur
	local IFS=$'\n'
	# shellcheck disable=SC2207 # one per line
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_vsockfs() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} list=''
	if [[ $prev = -o ]]; then
		[[ $cur != *,* ]] || list=${cur%,*},
		cur=${cur##*,}
		_vsockfs_reply "$(_vsockfs_words "$1" '^    [a-z_]+(=|$| )' | tr -d ' ' | sort -u)"
		COMPREPLY=("${COMPREPLY[@]/#/$list}")
		compopt -o nospace 2>/dev/null
	elif [[ $cur = -* ]]; then
		_vsockfs_reply $'-o\n-f\n-d\n'"$(_vsockfs_words "$1" '--[a-z-]+')"
	elif [[ $COMP_CWORD = 1 ]]; then
		_vsockfs_reply $'dir:\nunix:\nvsock:\nfd:'
		compopt -o nospace 2>/dev/null
	else
		compopt -o dirnames 2>/dev/null
	fi
}

_vsockfsd() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	if [[ $cur = -* ]]; then
		_vsockfs_reply "$(_vsockfs_words "$1" '--[a-z-]+' | sort -u)"
	else
		compopt -o dirnames 2>/dev/null
	fi
}

_vfsstat() {
	local cur=${COMP_WORDS[COMP_CWORD]} verbs verb=${COMP_WORDS[1]}
	verbs=$(_vsockfs_words "$1" '^    [a-z]+' | tr -d ' ')
	if [[ $cur = -* && $verb = drop ]]; then
		_vsockfs_reply --everything
	elif [[ $cur = -* ]]; then
		_vsockfs_reply "$(_vsockfs_words "$1" '^    --[a-z-]+' | tr -d ' ')"
	elif [[ $COMP_CWORD = 1 ]]; then
		_vsockfs_reply "$verbs"$'\n'"$(_vsockfs_mounts)"
	elif [[ $verb = trace && $COMP_CWORD = 2 ]]; then
		_vsockfs_reply $'on\noff'
	elif [[ $verb = get || $verb = set ]]; then
		local names
		names=$("$1" get 2>/dev/null | awk -v end="${verb/#get/}" '{ print $1 (end == "" ? "" : "=") }')
		_vsockfs_reply "$names"$'\n'"$(_vsockfs_mounts)"
		[[ $verb != set ]] || compopt -o nospace 2>/dev/null
	else
		_vsockfs_reply "$(_vsockfs_mounts)"
	fi
}

complete -F _vsockfs vsockfs
complete -F _vsockfsd vsockfsd
complete -F _vfsstat vfsstat
