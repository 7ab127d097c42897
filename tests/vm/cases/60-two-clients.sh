# Two clients of one server: each sees what the other has done (I5), and neither loses anything.
B=/mnt-two

is() { [ "$(cat "$1")" = "$2" ]; }
absent() { [ ! -e "$1" ]; }

check_start() { start_client vsock:1:5001 $B; }
check_as start check_start

see_each_other() {
	A=$W B=$B/$CASE
	echo first >$A/f
	wait_for 2 is $B/f first
	stat $A/f $B/f
	echo second >$B/f
	wait_for 2 is $A/f second
	not stat $B/late
	: >$A/late
	wait_for 2 test -e $B/late
	mv $B/late $B/moved
	wait_for 2 absent $A/late
	test -e $A/moved
	rm $A/moved
	wait_for 2 absent $B/moved
	same "$(stat -c '%f %h %s %u' $A/f)" "$(stat -c '%f %h %s %u' $B/f)"
}
check see_each_other

appends() { # both to one file: no line is lost, none is torn
	A=$W B=$B/$CASE
	: >$A/log
	(for i in $(seq 1 100); do echo "A $i" >>$A/log; done) &
	(for i in $(seq 1 100); do echo "B $i" >>$B/log; done) &
	wait
	same 200 "$(wc -l <$H/log)"
	same 100 "$(grep -c '^A [0-9]*$' $H/log)"
	same 100 "$(grep -c '^B [0-9]*$' $H/log)"
	wait_for 2 cmp $A/log $H/log
	wait_for 2 cmp $B/log $H/log
}
check appends 60

same_directory() { # both create in it while each is told of the other's
	A=$W B=$B/$CASE
	mkdir $A/d
	(cd $A/d && for i in $(seq 1 200); do : >a$i; done) &
	(cd $B/d && for i in $(seq 1 200); do : >b$i; done) &
	wait
	same 400 "$(ls $H/d | wc -l)"
	four_hundred() { [ "$(ls $1 | wc -l)" = 400 ]; }
	wait_for 2 four_hundred $A/d
	wait_for 2 four_hundred $B/d
}
check same_directory 60

exclusive() { # of two that create one name with O_EXCL, one wins
	A=$W B=$B/$CASE
	mkdir $A/x
	for i in $(seq 1 30); do
		(set -C; : >$A/x/$i) 2>/dev/null && echo won >>$A/won-a &
		(set -C; : >$B/x/$i) 2>/dev/null && echo won >>$A/won-b &
		wait
	done
	same 30 "$(cat $H/won-a $H/won-b | wc -l)"
}
check exclusive 60

check_end() { stop_client $B; }
check_as end check_end
