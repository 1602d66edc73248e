# The volume is put aside by a rename to a place beside its own. A process that has it open goes on with it, so the
# container is killed, and the kubelet starts it again.
end_them() { kill_containers_of "$namespace" "$workload"; }
find_volume() {
	volume=$(volume_of "$namespace" "$workload")
	[ -d "$volume" ] || { echo "$workload has no volume here, or several" >&2; exit 1; }
}
# A restarted kubelet has forgotten how long the container was to wait for its next start.
start_them_anew() {
	end_them
	systemctl restart kubelet
	systemctl is-active --quiet kubelet
}
# Takes a copy, as an operator would while all is well.
snapshot() {
	find_volume
	if [ ! -e "$home/copy" ]; then
		rm -rf "$home/copy.new"
		cp -a "$volume" "$home/copy.new"
		mv "$home/copy.new" "$home/copy"
	fi
	echo "a copy, $(du --summarize --bytes "$home/copy" | cut -f 1) bytes"
}
# Fills what is left of the volume from the copy.
remedy() {
	[ ! -e "$home/remedied" ] || return 0
	[ -d "$home/copy" ] || { echo 'there is no copy' >&2; exit 1; }
	cp -a "$home/copy/." "$(cat "$home/volume")"
	start_them_anew
	: >"$home/remedied"
}
inject() {
	if [ ! -e "$home/volume" ]; then
		find_volume
		echo "$volume" >"$home/volume.new"
		mv "$home/volume.new" "$home/volume"
	fi
	volume=$(cat "$home/volume")
	[ ! -e "$home/ended" ] || return 0
	[ -e "$volume.$name" ] || mv -T "$volume" "$volume.$name"
	if [ "$left" != nothing ] && [ ! -e "$volume" ]; then
		mkdir "$volume.$name.new"
		like_the_volume "$volume.$name.new"
		mv -T "$volume.$name.new" "$volume"
	fi
	case $left in
	read-only) mountpoint -q "$volume" || read_only ;;
	full) mountpoint -q "$volume" || full ;;
	esac
	end_them
	: >"$home/ended"
}
like_the_volume() {
	chown --reference="$volume.$name" "$1"
	chmod --reference="$volume.$name" "$1"
}
# At no moment can anything be written to the volume itself through its own place.
read_only() {
	mkdir -p "$home/read-only"
	mount --bind "$volume.$name" "$home/read-only"
	mount -o remount,bind,ro "$home/read-only"
	mount --bind "$home/read-only" "$volume"
	umount "$home/read-only"
	[ ! -w "$volume" ]
}
# A copy, on a disk of its own that has not one free page.
full() {
	pages=$(du --summarize --block-size=4K "$volume.$name" | cut -f 1)
	mkdir -p "$home/full"
	mount -t tmpfs -o "size=$(((pages + 16) * 4))k" kchaos "$home/full"
	cp -a "$volume.$name/." "$home/full"
	like_the_volume "$home/full"
	dd if=/dev/zero of="$home/full/$name" bs=4k status=none 2>/dev/null || :
	mount --bind "$home/full" "$volume"
	umount "$home/full"
	[ "$(stat --file-system --format=%f "$volume")" = 0 ]
}
# What came in the volume's place holds nothing that was there before, or only a copy of it.
undo() {
	for place in "$home/read-only" "$home/full"; do
		while mountpoint -q "$place"; do umount --lazy "$place"; done
	done
	[ -e "$home/volume" ] || return 0
	volume=$(cat "$home/volume")
	if [ -e "$volume.$name" ]; then
		while mountpoint -q "$volume"; do umount --lazy "$volume"; done
		rm -rf --one-file-system "$volume"
		mv -T "$volume.$name" "$volume"
	fi
	rm -rf "$volume.$name.new"
	start_them_anew
}
