# Every file operation once, seen through the mount and on the server's side.

create() {
	cd $W
	echo one >file
	same one "$(cat file)"
	same one "$(cat $H/file)"
	same "$(stat -c '%s %f %h %u %g %Y' $H/file)" "$(stat -c '%s %f %h %u %g %Y' file)"
	(set -C; not sh -c 'set -C; : >file') 2>&1 # O_EXCL
	same one "$(cat file)"
}
check create

write() {
	cd $W
	dd if=/dev/urandom of=/tmp/w bs=1000 count=37 2>/dev/null
	cp /tmp/w w
	cmp /tmp/w $H/w
	# In the middle, without a truncation.
	printf middle >/tmp/m
	for f in /tmp/w w; do dd if=/tmp/m of=$f bs=1 seek=10000 conv=notrunc 2>/dev/null; done
	cmp /tmp/w w
	cmp /tmp/w $H/w
	# Beyond the end: zeros in between.
	for f in /tmp/w w; do dd if=/tmp/m of=$f bs=1 seek=50000 conv=notrunc 2>/dev/null; done
	cmp /tmp/w w
	cmp /tmp/w $H/w
	rm /tmp/w
}
check write

append() {
	cd $W
	for i in 1 2 3 4 5; do echo "line $i" >>log; done
	same 35 "$(stat -c %s log)"
	# The end moves on the server; the next append goes there, whatever size is cached here.
	echo 'host line' >>$H/log
	echo 'line 7' >>log
	same 'line 7' "$(tail -n 1 $H/log)"
	same 7 "$(wc -l <$H/log)"
	wait_for 5 cmp log $H/log
}
check append

truncate() {
	cd $W
	echo 0123456789 >t
	command truncate -s 4 t
	same 0123 "$(cat t)"
	command truncate -s 8192 t
	same 8192 "$(stat -c %s $H/t)"
	same 4 "$(tr -d '\0' <t | wc -c)"
	: >t
	same 0 "$(stat -c %s $H/t)"
	same '' "$(cat t)"
}
check truncate

rename() {
	cd $W
	mkdir d1 d2
	echo a >a
	mv a b
	test ! -e a
	same a "$(cat b)"
	mv b d1/c
	same a "$(cat $H/d1/c)"
	# Over an existing name, and a directory with something in it.
	echo new >n
	mv n d1/c
	same new "$(cat d1/c)"
	mv d1 d2/d3
	same new "$(cat d2/d3/c)"
	test ! -e $H/d1
	mkdir full; : >full/x
	mkdir empty
	not mv -T empty full
	not rmdir full
	not mv -T d2 d2/d3/below
}
check rename

hard_link() {
	cd $W
	echo x >h1
	ln h1 h2
	same 2 "$(stat -c %h h1)"
	same "$(stat -c %i h1)" "$(stat -c %i h2)"
	echo y >>h2
	same "$(cat $H/h1)" "$(cat h1)"
	same 2 "$(wc -l <h1)"
	rm h1
	same 1 "$(stat -c %h h2)"
	same 2 "$(wc -l <h2)"
}
check hard_link

symlink() {
	cd $W
	echo target >st
	ln -s st s
	same st "$(readlink s)"
	same st "$(readlink $H/s)"
	same target "$(cat s)"
	ln -s /nowhere/at/all dangling
	same /nowhere/at/all "$(readlink dangling)"
	not cat dangling
	ln -s loop loop
	not cat loop
	ln -sf other s
	same other "$(readlink s)"
}
check symlink

unlink() {
	cd $W
	echo kept >u
	exec 5<>u
	rm u
	test ! -e u
	test ! -e $H/u
	# The open file stays.
	same kept "$(cat <&5)"
	exec 5>&-
	not rm u
	mkdir ud
	rmdir ud
	test ! -e $H/ud
}
check unlink

attributes() {
	cd $W
	: >at
	chmod 4751 at
	same 4751 "$(stat -c %a $H/at)"
	chown 1000:2000 at
	same 1000:2000 "$(stat -c %u:%g $H/at)"
	same 1000:2000 "$(stat -c %u:%g at)"
	touch -d '2001-02-03 04:05:06.123456789' at
	same "$(stat -c %y at)" "$(stat -c %y $H/at)"
	stat -c %y $H/at | grep -q '06.123456789'
	touch -a -d '2002-02-03 04:05:06' at
	stat -c %y at | grep -q '^2001'
	stat -c %x at | grep -q '^2002'
}
check attributes

names() {
	cd $W
	mkdir names
	cd names
	long=$(printf '%0255d' 7)
	: >"$long"
	test -e "$H/names/$long"
	not touch "0$long"
	: >'with  spaces and "quotes"'
	: >"$(printf 'latin\351')"
	: >-dash
	: >"$(printf 'new\nline')"
	same "$(ls -A $H/names | md5sum)" "$(ls -A | md5sum)"
	rm -- "$(printf 'latin\351')" -dash "$(printf 'new\nline')"
	same 2 "$(ls -A $H/names | wc -l)"
}
check names

named_pipe() {
	cd $W
	mkfifo fifo
	test -p $H/fifo
	(echo through >fifo) &
	same through "$(cat fifo)"
}
check named_pipe

device_nodes() { # refused, but by a server that was told to
	cd $W
	not mknod dev c 1 3
	test ! -e $H/dev
	mkdir -p $H/special
	start_server special vsock:1:5017 $H/special --special
	start_client vsock:1:5017 /mnt-special
	mknod /mnt-special/dev c 1 3
	test -c $H/special/dev
	same 1:3 "$(stat -c %t:%T /mnt-special/dev)"
	stop_client /mnt-special
	stop_server special
}
check device_nodes

run_program() { # mapped pages
	cd $W
	cp /bin/busybox tool
	ln -s tool echo
	same works "$(./echo works)"
	cmp /bin/busybox $H/tool
}
check run_program

file_system() {
	cd $W
	same "$(stat -f -c '%S %b %l' $H)" "$(stat -f -c '%S %b %l' .)"
	df . | grep -q "$MNT"
	sync
}
check file_system
