# Many files at once, and a big one.

make_tree() { # DIR: 20 directories of 10 files, links of both kinds, odd modes and times
	local i j
	mkdir -p "$1"
	cd "$1"
	for i in $(seq 1 20); do
		mkdir -p dir$i/sub
		for j in $(seq 1 10); do echo "$i $j $(printf "%0$((i * j))d" 1)" >dir$i/file$j; done
		ln -s ../dir$i/file1 dir$i/sub/link
		ln dir$i/file2 dir$i/hard
	done
	chmod 711 dir1
	chmod 400 dir1/file1
	chmod 755 dir2/file3
	chown 1000:1001 dir3/file1
	touch -d '2003-04-05 06:07:08.5' dir4/file1 dir5
	mkfifo dir6/fifo
	: >dir7/empty
	command truncate -s 300000 dir8/sparse
}
listing() { # DIR: name, mode, owner, links, size, mtime of everything, and the targets of links
	(cd "$1" && find . ! -type d -exec stat -c '%n %f %u:%g %h %s %y' {} + -o -type d -exec stat -c '%n %f %u:%g %y' {} + | sort
		find . -type l -exec readlink {} \; | sort)
}

copy_tree() {
	make_tree /tmp/tree
	cp -a /tmp/tree $W/copy
	# Named pipes are not read, and links compared by where they lead.
	diff -r --no-dereference -x fifo /tmp/tree $W/copy
	diff -r --no-dereference -x fifo $W/copy $H/copy
	listing /tmp/tree >/tmp/l1
	listing $W/copy >/tmp/l2
	listing $H/copy >/tmp/l3
	diff /tmp/l1 /tmp/l3
	diff /tmp/l2 /tmp/l3
	test $(wc -l </tmp/l1) -gt 280
}
check copy_tree 90

copy_back() {
	cd /tmp
	rm -rf back
	cp -a $W/copy back
	listing /tmp/back >/tmp/l4
	diff /tmp/l1 /tmp/l4
	tar -C $W -cf - copy | tar -tf - | sort >/tmp/l5
	(cd /tmp && tar -cf - back) | tar -tf - | sed 's/^back/copy/' | sort | diff - /tmp/l5
	rm -rf back
}
check copy_back 60

remove_tree() {
	rm -r $W/copy
	test ! -e $H/copy
	test ! -e $W/copy
}
check remove_tree 60

big_file() { # 8 MiB
	cd $W
	dd if=/dev/urandom of=/tmp/big bs=1M count=8 2>/dev/null
	cp /tmp/big big
	same "$(md5sum </tmp/big)" "$(md5sum <$H/big)"
	same "$(md5sum </tmp/big)" "$(md5sum <big)"
	# Not from this kernel's pages.
	echo 3 >/proc/sys/vm/drop_caches
	same "$(md5sum </tmp/big)" "$(md5sum <big)"
	# And one that the kernel has never seen.
	cp /tmp/big $H/big2
	same "$(md5sum </tmp/big)" "$(md5sum <big2)"
	same 8388608 "$(stat -c %s big2)"
	dd if=big2 bs=4096 skip=777 count=100 2>/dev/null >/tmp/part
	dd if=/tmp/big bs=4096 skip=777 count=100 2>/dev/null | cmp - /tmp/part
	rm big big2 /tmp/big
}
check big_file 60

many_entries() { # 2,000 in one directory, made on both sides
	mkdir $W/many
	cd $H/many
	for i in $(seq 1 1000); do : >host-$i; done
	cd $W/many
	for i in $(seq 1 1000); do : >guest-$i; done
	same 2000 "$(ls | wc -l)"
	same "$(ls $H/many | md5sum)" "$(ls | md5sum)"
	same 2000 "$(ls -l | grep -c '^-rw')"
	same 2000 "$(ls | wc -l)"
	# None is skipped, none comes twice, when names go while they are listed.
	rm host-*
	same 1000 "$(ls $H/many | wc -l)"
	same 1000 "$(ls | sort -u | wc -l)"
	cd ..
	rm -r many
	test ! -e $H/many
}
check many_entries 120

deep() {
	cd $W
	path=.
	for i in $(seq 1 40); do path=$path/level$i; done
	mkdir -p $path
	echo bottom >$path/file
	same bottom "$(cat $H/$path/file)"
	same 41 "$(find level1 | wc -l)"
	rm -r level1
}
check deep
