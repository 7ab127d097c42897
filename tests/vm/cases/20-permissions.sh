# The guest's kernel decides who may do what (default_permissions), and what others create is theirs on the server.

check_owner() {
	mkdir -m 777 $W/open
	cd $W/open
	as 1000 sh -c 'echo mine >file; mkdir dir; ln -s file link; mkfifo fifo'
	for f in file dir link fifo; do
		same 1000:1000 "$(stat -c %u:%g $H/open/$f)"
		same 1000:1000 "$(stat -c %u:%g $f)"
	done
	same 644 "$(stat -c %a $H/open/file)"
	as 1000 sh -c 'umask 027; : >masked'
	same 640 "$(stat -c %a $H/open/masked)"
	su dev -c 'echo more >>file'
	same 2 "$(wc -l <$H/open/file)"
}
check_as owner check_owner

read_denied() {
	cd $W
	echo secret >secret
	chmod 600 secret
	not as 1000 cat secret
	as 1000 stat secret
	chmod 604 secret
	same secret "$(as 1000 cat secret)"
	not as 1000 sh -c 'echo no >>secret'
	same secret "$(cat $H/secret)"
}
check read_denied

directory_denied() {
	cd $W
	mkdir -m 700 private
	echo x >private/x
	not as 1000 ls private
	not as 1000 cat private/x
	not as 1000 touch private/y
	mkdir -m 755 readonly
	echo x >readonly/x
	same x "$(as 1000 ls readonly)"
	not as 1000 touch readonly/y
	not as 1000 rm -f readonly/x
	not as 1000 mv readonly/x readonly/z
	chmod 711 private
	same x "$(as 1000 cat private/x)"
	not as 1000 ls private
}
check directory_denied

change_denied() {
	cd $W
	: >root-file
	not as 1000 chmod 777 root-file
	not as 1000 chown 1000 root-file
	not as 1000 touch -d 2001-01-01 root-file
	same '644 0' "$(stat -c '%a %u' $H/root-file)"
	chown 1000:1000 root-file
	as 1000 chmod 600 root-file
	same 600 "$(stat -c %a $H/root-file)"
	not as 1001 cat root-file
	not as 1000 chown 1001 root-file
}
check change_denied

groups() {
	cd $W
	echo shared >grp
	chown 0:2000 grp
	chmod 660 grp
	not as 1000 cat grp
	same shared "$(setpriv --reuid 1000 --regid 1000 --groups 2000 cat grp)"
	same shared "$(su dev -c "cat $W/grp")"
	# A setgid directory gives its group on.
	mkdir sg
	chown 0:2000 sg
	chmod 2775 sg
	setpriv --reuid 1000 --regid 1000 --groups 2000 sh -c ': >sg/f; mkdir sg/d'
	same 1000:2000 "$(stat -c %u:%g $H/sg/f)"
	same '2000 2755' "$(stat -c '%g %a' $H/sg/d)"
	not as 1001 touch sg/no
}
check groups

sticky() {
	cd $W
	mkdir -m 1777 st
	as 1000 touch st/f
	not as 1001 rm -f st/f
	not as 1001 mv st/f st/g
	as 1000 rm st/f
}
check sticky

setuid_cleared_write() { # by another's write
	cd $W
	echo 12345 >su
	chmod 6777 su
	as 1000 /usr/bin/dd if=/dev/zero of=su bs=1 count=1 conv=notrunc
	same 777 "$(stat -c %a $H/su)"
	same 777 "$(stat -c %a su)"
}
check setuid_cleared_write

setuid_cleared_append() {
	cd $W
	: >sua
	chmod 6777 sua
	as 1000 sh -c 'echo x >>sua'
	same 777 "$(stat -c %a $H/sua)"
}
check setuid_cleared_append

setuid_cleared_truncate() {
	cd $W
	echo x >sut
	chmod 6777 sut
	as 1000 sh -c ': >sut'
	same 777 "$(stat -c %a $H/sut)"
	same 0 "$(stat -c %s $H/sut)"
}
check setuid_cleared_truncate
