# shellcheck shell=sh
# A shell for a person. PID 1 must never end: the kernel panics when it does.

# offer_rescue_shell: lb.rescue was given; the root stands, the stick was not touched yet.
offer_rescue_shell() {
    [ "$RESCUE_WANTED" = yes ] || return 0
    say "rescue shell: the root is built at $NEW_ROOT, the stick was not touched yet; exit continues the boot"
    console_shell
    offer_failsafe
}

# rescue REASON: does not return.
rescue() {
    trap - EXIT
    say "cannot go on: $1"
    tell "$PREFIX: this is a rescue shell; dmesg has every step, reboot -f starts again"
    rescue_idle=0
    while [ "$rescue_idle" -lt 3 ]; do
        clock
        rescue_since=$NOW
        console_shell
        clock
        # A shell that ends at once has nobody in front of it.
        if [ $((NOW - rescue_since)) -lt 100 ]; then rescue_idle=$((rescue_idle + 1)); else rescue_idle=0; fi
        run "$BUSYBOX" sleep 1
    done
    while :; do run "$BUSYBOX" sleep 3600; done
}

console_shell() {
    stop_listening
    PS1="$PREFIX# " run "$BUSYBOX" setsid "$BUSYBOX" cttyhack "$BUSYBOX" sh
}
