# shellcheck shell=sh
# A change of /etc/config that happens wholly or not at all: what was there before is packed first, and taken back by
# the next start when nobody said that it is no longer needed. A change that may cut off whoever makes it waits 60 s
# for `router confirm`, which may come over the new connection.

PENDING=$ROOT/etc/livebuilder/pending
WATCHER=$ROOT/tmp/run/router/pending.pid # whose change it is: an earlier one's watcher must not take back a later one
PATIENCE=60

# lock: nobody else changes the settings or the network until unlock, or the end of this command.
lock() {
    take_turn change "$@" || return
    trap unlock EXIT
}

unlock() {
    end_turn change
    trap - EXIT
}

# lock_or_fail: whoever types does not wait for ever.
lock_or_fail() { lock 300 || fail "the network or another router command is at work" "the same again in a moment"; }

begin_change() {
    lock_or_fail
    [ ! -e "$PENDING" ] || fail "a change waits for its confirmation" "router confirm   # or wait: it is taken back"
    trap '' HUP INT
    set -- config
    [ ! -e "$ROOT/etc/livebuilder/wan" ] || set -- config livebuilder/wan
    pack "$PENDING" "$@" || fail "the settings could not be packed, so nothing was changed" "df /overlay"
}

# assign CONFIG SECTION OPTION VALUE
assign() {
    config_set "$@" && return
    take_back
    fail "/etc/config/$1 could not be changed: nothing was" "df /overlay; cat /etc/config/$1"
}

# end_change "SERVICE ACTION"...: these read the new settings.
end_change() {
    settle
    unlock # the network's service wants its turn
    tell_services "$@"
}

# end_change_or_wait MESSAGE "SERVICE ACTION"...: the same, but for a caller who may be cut off the change has to be confirmed.
end_change_or_wait() {
    if [ -z "${SSH_CONNECTION:-}" ]; then
        shift
        end_change "$@"
        return
    fi
    printf '%s\nWithout this within %s seconds all is as before: router confirm\n' "$1" "$PATIENCE"
    shift
    run sync
    rm -f "$WATCHER"
    # In a session of its own: the connection that ends must not end it.
    run setsid "$ROOT/lib/router/pending" "$@" </dev/null >/dev/null 2>&1 &
}

tell_services() {
    for _words; do
        # shellcheck disable=SC2086  # words
        run "$ROOT"/etc/init.d/$_words
    done
}

# settle: the change stays.
settle() {
    rm -f "$PENDING"
    run sync
}

confirm_change() {
    lock_or_fail
    [ -e "$PENDING" ] || fail "no change waits for a confirmation" "router status"
    settle
    echo "The change stays."
}

# take_back: the settings as they were before the change.
take_back() {
    unpack "$PENDING" && put_back "$UNPACKED/config" "$ROOT/etc/config" && take_back_wan
    _status=$?
    rm -rf "$UNPACKED"
    settle
    return "$_status"
}

take_back_wan() {
    if [ -e "$UNPACKED/livebuilder/wan" ]; then
        put_back_one "$UNPACKED/livebuilder/wan" "$ROOT/etc/livebuilder/wan"
    else
        rm -f "$ROOT/etc/livebuilder/wan"
    fi
}

# take_back_pending WHY: with words for whoever wonders.
take_back_pending() {
    [ -e "$PENDING" ] || return 0
    if take_back; then
        notice "$1: the settings are as they were before it"
    else
        notice "$1, but the settings before it cannot be read: it stays"
    fi
}
