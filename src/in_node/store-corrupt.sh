# The store is there except for the first pages of its database. Without them, etcd cannot read it.
inject() {
	put_aside
	if [ ! -e "$data/member" ]; then
		cp -a --sparse=always "$aside/member" "$aside/corrupt"
		dd if=/dev/zero of="$aside/corrupt/snap/db" bs=4096 count=2 conv=notrunc 2>/dev/null
		mv "$aside/corrupt" "$data/member"
	fi
	restart_with_it
}
undo() { put_store_back; }
