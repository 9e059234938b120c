# shellcheck shell=sh
# What the router knows about itself now, for whoever asks: /tmp/run/router/NAME holds lines of key=value.
# Every file is written whole and renamed: a reader never sees half of it.

FACTS=/tmp/run/router

# facts_write NAME KEY=VALUE...: what follows a line break in a value is left out, so that nobody's answer adds a key.
facts_write() {
    _name=$1
    shift
    mkdir -p "$ROOT$FACTS"
    for _fact; do
        printf '%s\n' "${_fact%%
*}"
    done >"$ROOT$FACTS/.$_name.$$" && mv "$ROOT$FACTS/.$_name.$$" "$ROOT$FACTS/$_name"
}

# facts_get VARIABLE NAME KEY: the value, or nothing; returns 1 when it is not known.
facts_get() {
    eval "$1="
    [ -r "$ROOT$FACTS/$2" ] || return 1
    while IFS= read -r _fact; do
        [ "${_fact%%=*}" = "$3" ] || continue
        eval "$1=\${_fact#*=}"
        return 0
    done <"$ROOT$FACTS/$2"
    return 1
}

# facts_change NAME KEY=VALUE...: these keys anew, all others as they were.
facts_change() {
    _name=$1
    shift
    if [ -r "$ROOT$FACTS/$_name" ]; then
        while IFS= read -r _line; do
            for _fact; do
                [ "${_fact%%=*}" != "${_line%%=*}" ] || continue 2
            done
            set -- "$@" "$_line"
        done <"$ROOT$FACTS/$_name"
    fi
    facts_write "$_name" "$@"
}
