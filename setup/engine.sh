#!/usr/bin/env bash
# engine.sh start|stop|status: the Docker engine of this machine.
# An engine that runs is left as it is. One that is installed but down is started: by systemd where
# that is pid 1, else by hand, detached, so that it outlives this shell. Only an engine started by
# hand can be stopped here.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
log=$CACHE/logs/dockerd.log
pidfile=/run/docker.pid

up() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

start() {
	up && return
	[[ $(id -u) == 0 ]] || die "no Docker engine answers and starting one needs root: start Docker, or join the docker group (then log in again)"
	command -v dockerd >/dev/null || die "no Docker engine is installed: run make setup"
	if [[ -d /run/systemd/system ]]; then
		systemctl start docker || die "Docker could not be started by systemd: journalctl -u docker"
	else
		local flags=()
		if lacks_sys_resource; then
			local runtime
			runtime=$(oci_runtime)
			[[ -x $runtime ]] || die "this root lacks CAP_SYS_RESOURCE and the runtime wrapper isn't built: run make setup"
			# No need to be asked twice: newer engines (23+) know what they may grant.
			flags=(--add-runtime "kchaos=$runtime" --default-runtime kchaos)
		fi
		# A daemon that was killed leaves its pid files behind; dockerd refuses to start
		# when such a pid lives again as something else.
		pid_is dockerd "$pidfile" || rm -f "$pidfile"
		pid_is containerd /run/docker/containerd/containerd.pid || rm -f /run/docker/containerd/containerd.pid
		forget_bridges
		mkdir -p "${log%/*}"
		(
			# It outlives the caller: a lock or pipe of the caller's that it held would never be let go.
			for fd in /proc/self/fd/*; do
				fd=${fd##*/}
				if ((fd > 2)); then eval "exec $fd>&-"; fi
			done
			exec setsid dockerd "${flags[@]}" >>"$log" 2>&1 </dev/null
		) &
		local pid=$!
		until up; do
			alive "$pid" || die "dockerd ended at once; its log: $log: $(tail -n 1 "$log")"
			sleep 0.2
		done
		return
	fi
	local tries=150
	until up; do
		((tries-- > 0)) || die "Docker was started by systemd but doesn't answer: journalctl -u docker"
		sleep 0.2
	done
}

# alive PID: it exists and isn't just waiting to be reaped.
alive() { grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }

# pid_is NAME FILE: the process whose pid FILE holds is alive and called NAME.
pid_is() { [[ -f $2 && $(cat "/proc/$(cat "$2")/comm" 2>/dev/null) == "$1" ]] && alive "$(cat "$2")"; }

# forget_bridges: an engine whose data was removed has left rules for bridges that are gone. In a new network of the same range they rewrite
# the source of packets between its containers, and no packet filter knows any more who has sent them.
forget_bridges() {
	command -v iptables >/dev/null || return 0
	local rule bridge
	iptables -t nat -S POSTROUTING 2>/dev/null | grep -E '^-A POSTROUTING -s [0-9./]+ ! -o br-[0-9a-f]+ -j MASQUERADE$' |
		while read -r rule; do
			bridge=${rule#*! -o } bridge=${bridge%% *}
			# shellcheck disable=SC2086 # words
			[[ -e /sys/class/net/$bridge ]] || iptables -t nat -D ${rule#-A }
		done || :
}

stop() {
	pid_is dockerd "$pidfile" || die "no dockerd that was started by hand runs here"
	local pid
	pid=$(cat "$pidfile")
	kill "$pid"
	while alive "$pid"; do sleep 0.2; done
}

case ${1-} in
start) start ;;
stop) stop ;;
status) up ;;
*) die "usage: engine.sh start|stop|status" ;;
esac
