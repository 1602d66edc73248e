# What kchaos does inside a node. The functions `inject` and `undo` of one change come before this text, which runs one
# call:
#
#   arm NAME SECONDS TEXT   sets the switch: without a sign of life for SECONDS, it undoes. TEXT is this whole program.
#   snapshot NAME           saves what a remedy will need, if the switch is set and has not gone off (some changes only)
#   change NAME             injects, under the same condition
#   remedy NAME             does what an operator would do about it, under the same condition (some changes only)
#   renew NAME              gives a sign of life
#   expire NAME             the switch goes off (called by its service)
#   restore NAME            undoes, and removes the switch; if it had gone off, says `gone-off` and keeps a record
#   forget NAME             removes that record, once the answer has been received
#
# The switch is a timer of systemd in the node. It lies on the disk of the node, since some changes do: a node that was
# restarted undoes them, too.
# All calls take one lock, so that none sees the half-done work of another. The lock is on a directory that is never
# removed.
set -eu
call=$1 name=$2
lock=/var/lib home=/var/lib/kchaos/$2 units=/etc/systemd/system
exec 9<"$lock"
flock 9

is_set() { [ ! -e "$home/gone-off" ] && systemctl is-active --quiet "$name.timer"; }

case $call in
arm)
	[ ! -e "$home/gone-off" ] || { echo "the switch has gone off: nothing is injected any more" >&2; exit 75; }
	mkdir -p "$home"
	chmod 700 "$home"
	printf '%s\n' "$4" >"$home/program.new"
	mv "$home/program.new" "$home/program"
	# No start limits: each sign of life starts the timer again. If systemd refused one of these starts, the switch
	# would never go off.
	unit=$(printf '%s\n' '[Unit]' 'Description=kchaos: undo what it did here, unless it says that it lives' 'StartLimitIntervalSec=0')
	printf '%s\n' "$unit" '[Service]' 'Type=oneshot' 'Restart=on-failure' 'RestartSec=1s' \
		"ExecStart=/bin/sh $home/program expire $name" >"$units/$name.service"
	printf '%s\n' "$unit" '[Timer]' "OnActiveSec=$3" 'AccuracySec=100ms' '[Install]' 'WantedBy=timers.target' \
		>"$units/$name.timer"
	systemctl daemon-reload
	systemctl enable --quiet "$name.timer"
	systemctl restart "$name.timer"
	;;
snapshot | change | remedy)
	is_set || { echo "the switch is not set, or has gone off: nothing is changed" >&2; exit 75; }
	case $call in change) inject ;; *) "$call" ;; esac
	systemctl restart "$name.timer"
	;;
renew)
	is_set || { echo "the switch is not set, or has gone off" >&2; exit 75; }
	systemctl restart "$name.timer"
	;;
expire)
	# The change may have been restored while this call waited for the lock.
	[ -d "$home" ] || exit 0
	: >"$home/gone-off"
	undo
	;;
restore)
	# A systemd that has just been started does not take orders at once.
	tries=0
	until systemctl show --property=Version >/dev/null 2>&1 || [ "$tries" -ge 200 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	undo
	# The program goes last, so that a restore that is cut short can be done again.
	if [ -e "$units/$name.timer" ]; then
		systemctl disable --now --quiet "$name.timer"
		rm -f "$units/$name.timer"
	fi
	if [ -e "$units/$name.service" ]; then
		# The service may be waiting for the lock. If it is stopped, it does not fail.
		systemctl stop "$name.service"
		rm -f "$units/$name.service"
		systemctl daemon-reload
		systemctl reset-failed "$name.timer" "$name.service" 2>/dev/null || :
	fi
	# The answer may be lost. A caller that asks again must get the same one.
	if [ -e "$home/gone-off" ]; then
		echo gone-off
	else
		rm -rf "$home"
		rmdir /var/lib/kchaos 2>/dev/null || :
	fi
	;;
forget)
	rm -rf "$home"
	rmdir /var/lib/kchaos 2>/dev/null || :
	;;
esac
