# What kchaos does inside of a node. Behind the functions `inject` and `undo` of one change come these, and the call of one of them:
#
#   arm NAME SECONDS TEXT   sets the dead man's switch: without a sign of life, it undoes. TEXT is this very text.
#   snapshot NAME           saves what a remedy will need, if the switch is set and has not gone off (some changes only)
#   change NAME             injects, under the same condition
#   remedy NAME             does what an operator would do about it, under the same condition (some changes only)
#   renew NAME              gives a sign of life
#   expire NAME             the switch goes off (called by its service)
#   restore NAME            undoes, and removes the switch; says `gone-off` if it had, and then leaves what says so
#   forget NAME             removes that, once it was heard
#
# The switch is a timer of the node's systemd. It lies on the node's disk, since some changes do: a node that was restarted undoes them, too.
# All calls take one lock, so that none sees the half-done work of another. It is on a directory that is there whatever is removed.
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
	printf '%s\n' "$4" >"$home/program.new"
	mv "$home/program.new" "$home/program"
	# Without these limits: a timer that may not be started as often as signs of life come is a switch that never goes off.
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
	# Restored while this waited for the lock?
	[ -d "$home" ] || exit 0
	: >"$home/gone-off"
	undo
	;;
restore)
	# One that has just been started does not take orders at once.
	tries=0
	until systemctl show --property=Version >/dev/null 2>&1 || [ "$tries" -ge 200 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	undo
	# What is left if this is cut short can be restored again: the program goes last.
	if [ -e "$units/$name.timer" ]; then
		systemctl disable --now --quiet "$name.timer"
		rm -f "$units/$name.timer"
	fi
	if [ -e "$units/$name.service" ]; then
		# It may be waiting for the lock: stopped, it doesn't fail.
		systemctl stop "$name.service"
		rm -f "$units/$name.service"
		systemctl daemon-reload
		systemctl reset-failed "$name.timer" "$name.service" 2>/dev/null || :
	fi
	# An answer may be lost: who asks again must hear the same.
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
