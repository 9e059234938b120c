# shellcheck shell=sh
# Who wants to know what happens to a network joins as in OpenWrt: a file /etc/hotplug.d/iface/NN-name.

# iface_event ACTION INTERFACE DEVICE: read every file there, in order, each in a shell of its own, with ACTION
# (ifup, ifdown, ifupdate), INTERFACE (lan, wan, wan6) and DEVICE set and the shared functions at hand. The turn to change
# things is the caller's: what wants it too (router save, network restart) goes into the background.
iface_event() {
    for _script in "$ROOT"/etc/hotplug.d/iface/*; do
        [ -f "$_script" ] || continue
        # A file with a mistake in it ends its own shell only.
        (
            # shellcheck disable=SC2034  # for the script
            ACTION=$1 INTERFACE=$2 DEVICE=$3
            export ACTION INTERFACE DEVICE
            # shellcheck disable=SC1090  # which files there are is the services' own affair
            . "$_script"
        ) || :
    done
}

# tell_service NAME ACTION: unless somebody has disabled it.
tell_service() {
    for _link in "$ROOT"/etc/rc.d/S[0-9][0-9]"$1"; do
        [ ! -e "$_link" ] || run "$ROOT/etc/init.d/$1" "$2"
    done
}
