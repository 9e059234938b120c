# shellcheck shell=sh
# Commit points of the settings on the stick: /overlay/.livebuilder/history/N/ holds settings.tar.gz and `about`.
# N only grows, so that a number always means the same settings.

STICK=$ROOT/overlay/.livebuilder
HISTORY=$STICK/history
REVERT=$STICK/revert # holds the number that the next start goes back to
KEPT_POINTS=10

# commit_point WORDS: save the settings as the newest one; COMMIT_POINT = its number. Made beside and renamed; older ones
# than the last ten go.
commit_point() {
    settings_are_kept || return
    newest_point
    COMMIT_POINT=$((NEWEST + 1))
    if ! write_point "$HISTORY/.new" "$1"; then
        rm -rf "$HISTORY/.new"
        REASON="the stick did not take it (is it full? df /overlay)"
        return 1
    fi
    for _point in "$HISTORY"/[1-9]*; do
        [ "${_point##*/}" -gt $((COMMIT_POINT - KEPT_POINTS)) ] || [ "${_point##*/}" = "$(planned_point)" ] ||
            rm -rf "$_point"
    done
    settings_are_kept # a stick that went meanwhile took what we wrote and kept nothing
}

# write_point DRAFT WORDS
write_point() (
    umask 077
    rm -rf "$1"
    mkdir -p "$1" &&
        printf 'time=%s\nwords=%s\n' "$(date +%s)" "$(printf %s "$2" | tr '[:cntrl:]' ' ')" >"$1/about" &&
        pack_settings "$1/settings.tar.gz" && mv -T "$1" "$HISTORY/$COMMIT_POINT" && run sync
)

# settings_are_kept: or REASON says why not.
settings_are_kept() { REASON=$(router_status kept); }

newest_point() {
    NEWEST=0
    for _point in "$HISTORY"/[1-9]*; do
        [ ! -d "$_point" ] || [ "${_point##*/}" -le "$NEWEST" ] || NEWEST=${_point##*/}
    done
}

# read_point N: TIME and WORDS of it; 1 when there is no such commit point.
read_point() {
    TIME=0
    WORDS=
    [ -s "$HISTORY/$1/settings.tar.gz" ] && [ -r "$HISTORY/$1/about" ] || return 1
    while IFS='=' read -r _key _value; do
        case $_key in
        time) TIME=$_value ;;
        words) WORDS=$_value ;;
        esac
    done <"$HISTORY/$1/about"
}

whole_point() {
    case $1 in
    0* | *[!0-9]*) return 1 ;;
    esac
    read_point "$1" && tar -tzf "$HISTORY/$1/settings.tar.gz" >/dev/null 2>&1
}

list_points() {
    newest_point
    _first=$((NEWEST > KEPT_POINTS ? NEWEST - KEPT_POINTS + 1 : 1))
    while [ "$_first" -le "$NEWEST" ]; do
        ! read_point "$_first" || printf '%4s  %s  %s\n' "$_first" "$(date -d "@$TIME" '+%Y-%m-%d %H:%M')" "$WORDS"
        _first=$((_first + 1))
    done
}

planned_point() { cat "$REVERT" 2>/dev/null; }

# plan_revert N: the next start goes back to it.
plan_revert() {
    echo "$1" >"$REVERT.new" && run sync && mv "$REVERT.new" "$REVERT" && run sync
}

# revert_planned: at the start, before anything has read a setting. What is there is saved first, so that this can be
# taken back too. The plan is struck out last: a power cut in between means that all of it is done again.
revert_planned() {
    [ -e "$REVERT" ] || return 0
    _number=$(planned_point)
    if ! settings_are_kept; then
        # In failsafe, say: the plan is for a start that can keep what it does.
        notice "going back to commit point $_number has to wait, because $REASON"
        return
    fi
    if ! whole_point "$_number" || ! unpack "$HISTORY/$_number/settings.tar.gz"; then
        notice "the settings of commit point $_number cannot be read: nothing was changed"
    elif ! commit_point "before going back to $_number"; then
        notice "nothing was changed: what is there now could not be saved first, because $REASON"
    elif ! put_back "$UNPACKED" "$ROOT/etc"; then
        notice "not all settings of commit point $_number could be put back; those before it are: router revert $COMMIT_POINT"
    else
        notice "these are the settings of commit point $_number; those before it are: router revert $COMMIT_POINT"
    fi
    rm -rf "$UNPACKED"
    run sync
    rm -f "$REVERT"
    run sync
}

# notice TEXT: on the consoles now, and in router status until the next start.
notice() {
    say "router: $1"
    facts_write settings "notice=$1"
}
