# The pod is recreated with a flag that is set wrong, in place of any setting of that flag that it had. Only processes
# that lack the wrong flag are killed.
kill_it() {
	killed=1
	for pid in $(pgrep -f "^$component( |\$)"); do
		tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxFe "$flag" || { kill -KILL "$pid" && killed=0; }
	done
	return $killed
}
inject() {
	put_away
	if [ ! -e "$manifest" ]; then
		new=/etc/kubernetes/$name.new
		sed "/^ *- ${flag%%=*}\(=.*\)\{0,1\}\$/d; s|^\( *- \)$component\$|&\n\1$flag|" "$away" >"$new"
		# The kubelet takes half a manifest, or one without a name, for none. So nothing but the flag may differ.
		[ "$(grep -cxe " *- $flag" "$new")" = 1 ] || { echo "the manifest of $component has no command that a flag could be added to" >&2; exit 1; }
		[ "$(grep -vcFe "- ${flag%%=*}" "$new")" = "$(grep -vcFe "- ${flag%%=*}" "$away")" ]
		mv "$new" "$manifest"
	fi
	end_it
}
