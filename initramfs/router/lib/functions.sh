# shellcheck shell=sh
# What the scripts of this root share: hooks of preinit, settings of /etc/config.
#
# ROOT and RUN are empty on a running system; a test points ROOT at a folder and puts a program before
# every command that would change the machine.

run() { ${RUN:+"$RUN"} "$@"; }

# warn TEXT...: to whoever started the script, which at boot is the console.
warn() { printf '%s\n' "$*" >&2; }

# set_kernel PATH VALUE: a switch of /proc/sys, where this kernel has it.
set_kernel() { [ ! -w "$ROOT/proc/sys/$1" ] || echo "$2" >"$ROOT/proc/sys/$1"; }

# mounted PATH: whether a file system is mounted there (no, too, while /proc is not).
mounted() {
    [ -r "$ROOT/proc/mounts" ] || return 1
    while read -r _ _target _; do
        [ "$_target" != "$1" ] || return 0
    done <"$ROOT/proc/mounts"
    return 1
}

# boot_hook_init HOOK; boot_hook_add HOOK FUNCTION; boot_run_hook HOOK [ARGUMENT...]: functions kept in the
# order they were added, under the names the files of OpenWrt's /lib/preinit use.
boot_hook_init() { eval "${1}_hook="; }

boot_hook_add() { eval "${1}_hook=\"\${${1}_hook:-} \$2\""; }

boot_run_hook() {
    eval "_functions=\${${1}_hook:-}"
    shift
    # shellcheck disable=SC2154  # eval sets it
    for _function in $_functions; do
        "$_function" "$@"
    done
}

# config_load NAME: read /etc/config/NAME, sections of options in UCI's syntax; a section without a name is called
# cfg1, cfg2, ... The text is only read, never run: a line that is not understood is named and left out.
# Returns 1 when there is no such file.
config_load() {
    CONFIG_SECTIONS=
    _section=
    _line=0
    [ -r "$ROOT/etc/config/$1" ] || return 1
    while read -r _word _name _rest || [ -n "$_word" ]; do
        _line=$((_line + 1))
        _config_unquote _name
        _config_unquote _rest
        case $_word in
        '' | '#'*) continue ;;
        esac
        case $_name in
        *[!A-Za-z0-9_]*) _word= ;;
        esac
        case $_word in
        config) _config_section ;;
        option | list) _config_option ;;
        *) false ;;
        esac || warn "/etc/config/$1, line $_line is not understood and left out"
    done <"$ROOT/etc/config/$1"
}

# Take the quotes, and what follows the closing one, off the variable named $1.
_config_unquote() {
    eval "_value=\$$1"
    case $_value in
    \'*) _value=${_value#\'} _value=${_value%%\'*} ;;
    \"*) _value=${_value#\"} _value=${_value%%\"*} ;;
    *) _value=${_value%%[[:space:]]*} ;;
    esac
    eval "$1=\$_value"
}

_config_section() {
    _section=
    [ -n "$_name" ] || return 1
    _count=$((${_count:-0} + 1))
    case ${_rest:=cfg$_count} in *[!A-Za-z0-9_]*) return 1 ;; esac
    _section=$_rest
    CONFIG_SECTIONS="$CONFIG_SECTIONS $_section"
    eval "CONFIG_${_section}_TYPE=\$_name"
}

_config_option() {
    [ -n "$_section" ] && [ -n "$_name" ] || return 1
    if [ "$_word" = list ]; then
        config_get _value "$_section" "$_name"
        _rest=${_value:+$_value }$_rest
    fi
    eval "CONFIG_${_section}_${_name}=\$_rest"
}

# config_get VARIABLE SECTION OPTION [DEFAULT]
config_get() { eval "$1=\${CONFIG_${2}_${3}:-\${4:-}}"; }

# config_set CONFIG SECTION OPTION VALUE: change one option of /etc/config/CONFIG, whole or not at all; all other lines
# stay as they are. See config_set.awk. Returns 1, with a reason said, when the file cannot hold it.
config_set() {
    _config=$ROOT/etc/config/$1
    case $4 in
    *\'*\"* | *\"*\'* | *'
'*)
        warn "/etc/config/$1: $3 cannot hold both kinds of quotes, nor more than one line"
        return 1
        ;;
    esac
    # A copy first: whoever may read the file is to stay the same.
    if cp -p "$_config" "$_config.new" &&
        SECTION=$2 OPTION=$3 VALUE=$4 LC_ALL=C awk -f "$ROOT/lib/config_set.awk" "$_config" >"$_config.new"; then
        mv "$_config.new" "$_config"
    else
        rm -f "$_config.new"
        warn "/etc/config/$1: $3 is not changed: there is no section $2"
        return 1
    fi
}

# config_foreach FUNCTION TYPE: call it with the name of every section of that type, in the order of the file.
config_foreach() {
    for _each in $CONFIG_SECTIONS; do
        config_get _value "$_each" TYPE
        [ "$_value" != "$2" ] || "$1" "$_each"
    done
}
