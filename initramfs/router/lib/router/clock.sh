# shellcheck shell=sh
# The time: kept for the next boot, and what follows when it jumps.
# shellcheck disable=SC2154  # uptime_seconds sets a variable by name

LEASES=/etc/livebuilder/dhcp.leases
KEPT_EPOCH=/etc/livebuilder/clock

# Written beside and renamed: a power cut leaves the old time, not an empty file.
keep_clock() {
    date +%s >"$ROOT$KEPT_EPOCH.new" && mv "$ROOT$KEPT_EPOCH.new" "$ROOT$KEPT_EPOCH"
}

# uptime_seconds VARIABLE: since the kernel started; no setting of the clock moves this.
uptime_seconds() {
    read -r _uptime _ <"$ROOT/proc/uptime"
    eval "$1=\${_uptime%%.*}"
}

# boot_epoch VARIABLE: when the kernel started, by the clock: it changes by as much as the clock jumps.
boot_epoch() {
    uptime_seconds _seconds
    eval "$1=\$((\$(date +%s) - _seconds))"
}

# remember_leases: before a jump may come, because dnsmasq may forget them as expired right after it.
remember_leases() {
    cat "$ROOT$LEASES" >"$ROOT/tmp/run/leases.before" 2>/dev/null || :
}

# shift_leases SECONDS: devices hold their leases by clocks of their own, so that the ends move along with ours.
# Leases of the last boot move too, and may so last longer than was said: that harms nobody.
shift_leases() {
    [ -s "$ROOT/tmp/run/leases.before" ] || return 0
    run "$ROOT/etc/init.d/dnsmasq" stop
    LC_ALL=C awk -v jump="$1" -v now="$(date +%s)" -f "$ROOT/lib/router/leases.awk" \
        "$ROOT/tmp/run/leases.before" "$ROOT$LEASES" >"$ROOT$LEASES.new" && mv "$ROOT$LEASES.new" "$ROOT$LEASES"
    run "$ROOT/etc/init.d/dnsmasq" start
}
