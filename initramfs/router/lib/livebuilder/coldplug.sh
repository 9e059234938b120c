# shellcheck shell=sh
# Load drivers for the hardware this PC has, found by the aliases that the kernel gives its devices.

present_aliases() { cat "$ROOT"/sys/bus/*/devices/*/modalias 2>/dev/null | sort -u; }

# load_aliases "ALIAS ALIAS ...": one modprobe for all; most have no driver in this root, and that is fine.
load_aliases() {
    set -f
    # shellcheck disable=SC2086  # one word per alias
    [ -z "$1" ] || run modprobe -a -b -q $1 || :
    set +f
}

# Drivers for what is plugged in later.
listen_for_devices() {
    ${RUN:+"$RUN"} uevent "$ROOT/lib/livebuilder/hotplug" </dev/null >/dev/null 2>&1 &
    echo $! >"$ROOT$1"
}

# coldplug PIDFILE: first what is there, then what appeared behind it (virtio behind PCI, say); the listener
# starts in between, so that nothing is missed.
coldplug() {
    _first=$(present_aliases)
    load_aliases "$_first"
    listen_for_devices "$1"
    _later=$(present_aliases)
    [ "$_later" = "$_first" ] || load_aliases "$_later"
}
