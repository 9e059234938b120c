# shellcheck shell=sh
# What a person has to know while nobody waits for an answer.

# say TEXT: onto every console that has a login, and into the log.
say() {
    run logger -t router "$1"
    while IFS=: read -r _tty _ _action _; do
        case $_tty:$_action in
        [a-z]*:askfirst) printf '%s\n' "$1" >>"$ROOT/dev/$_tty" ;;
        esac
    done <"$ROOT/etc/inittab"
}
