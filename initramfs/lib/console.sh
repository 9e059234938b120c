# shellcheck shell=sh
# The consoles: what a person must see goes onto every one, and a word may be typed at any.

LISTENERS='' # the processes that read the consoles; nobody else gets what is typed there meanwhile

# read_consoles: CONSOLES = the names of those that the kernel writes to.
read_consoles() {
    CONSOLES=''
    { read -r CONSOLES <"$ROOT/sys/class/tty/console/active"; } 2>/dev/null
    : "${CONSOLES:=console}"
}

# tell TEXT: onto every console, as it is.
tell() {
    read_consoles
    for tell_name in $CONSOLES; do
        { printf '%s\n' "$1" >>"$ROOT/dev/$tell_name"; } 2>/dev/null
    done
    return 0
}

# listen WORD…: from now on, beside everything else, for a line that is one of these words; heard tells.
listen() {
    read_consoles
    for listen_name in $CONSOLES; do
        { hear "$@" <"$ROOT/dev/$listen_name"; } >/dev/null 2>&1 &
        LISTENERS="$LISTENERS $!"
    done
}

# hear WORD…: an open serial line may bring anything, so a line that is longer than the word is not the word.
hear() {
    while read -r hear_line; do
        for hear_word; do
            [ "$hear_line" != "$hear_word" ] || printf '%s\n' "$hear_word" >"$STATE/heard"
        done
    done
}

# heard: HEARD = the word that was typed last.
heard() {
    HEARD=''
    { read -r HEARD <"$STATE/heard"; } 2>/dev/null
    [ -n "$HEARD" ]
}

# stop_listening: when this returns what is typed is the next reader's, a shell's or the root's.
stop_listening() {
    [ -n "$LISTENERS" ] || return 0
    # shellcheck disable=SC2086 # a list of numbers; kill fails where one of them has ended by itself
    { kill $LISTENERS; wait $LISTENERS; } 2>/dev/null
    LISTENERS=''
}
