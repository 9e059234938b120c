# shellcheck shell=sh
# The network is changed by one at a time: the boot, a card that is plugged in, a lease, the watcher.

LOCK=/tmp/lock/network.change

# locked FUNCTION [ARGUMENT...]: run it while nobody else does. A holder that has died holds nothing.
locked() {
    until ln -s $$ "$ROOT$LOCK" 2>/dev/null; do
        _pid=$(readlink "$ROOT$LOCK") && [ ! -d "$ROOT/proc/$_pid" ] && rm -f "$ROOT$LOCK"
        run sleep 0.2
    done
    "$@"
    _status=$?
    rm -f "$ROOT$LOCK"
    return "$_status"
}
