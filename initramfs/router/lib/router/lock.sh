# shellcheck shell=sh
# One at a time. A turn is a symbolic link, which is made in one step, to the number of the process that has it.
#
#   NAME    of a service: whoever starts or stops it
#   change  /etc/config and the network: the router command, the boot, a card that is plugged in, a lease, the watcher
#
# Who has a service's turn may wait for "change", as the network does, and who has that for the turns of other services,
# as it tells them. Nobody waits the other way round.

TURNS=/tmp/lock

# take_turn NAME [TRIES]: wait for it; with TRIES, ten a second, give up after so many and return 1.
take_turn() {
    mkdir -p "$ROOT$TURNS"
    until ln -s $$ "$ROOT$TURNS/$1" 2>/dev/null; do
        [ "${2:-}" != 0 ] || return 1
        _holder=$(readlink "$ROOT$TURNS/$1") && [ ! -d "$ROOT/proc/$_holder" ] && clear_turn "$1" "$_holder"
        run sleep 0.1
        [ -z "${2:-}" ] || set -- "$1" $(($2 - 1))
    done
}

end_turn() { rm -f "$ROOT$TURNS/$1"; }

# clear_turn NAME HOLDER: its holder was killed. One at a time too: between the look and the rm it could be somebody's.
clear_turn() {
    take_turn "$1.$2"
    [ "$(readlink "$ROOT$TURNS/$1")" != "$2" ] || end_turn "$1"
    end_turn "$1.$2"
}

# locked FUNCTION [ARGUMENT...]: run it while nobody else changes the settings or the network.
locked() {
    take_turn change
    "$@"
    _status=$?
    end_turn change
    return "$_status"
}
