# shellcheck shell=sh
# Kernel modules. Built in or modular is all the same here: whether something works is asked of the kernel afterwards.

# load_modules NAME…: all of them with one modprobe; names that are built in or lacking do not stop the others.
load_modules() {
    [ $# -gt 0 ] || return 0
    run modprobe -a -q "$@" 2>>"$STATE/modprobe.log" || step "modprobe: not all of: $*"
    return 0
}

# find_aliases BUS PATTERN…: ALIASES = those of the devices on that bus that are like one of the patterns.
find_aliases() {
    aliases_bus=$1
    shift
    ALIASES=''
    for aliases_file in "$ROOT/sys/bus/$aliases_bus/devices"/*/modalias; do
        aliases_word=''
        { read -r aliases_word <"$aliases_file"; } 2>/dev/null
        for aliases_pattern; do
            # shellcheck disable=SC2254 # it is a pattern
            case $aliases_word in
                $aliases_pattern) ALIASES="$ALIASES $aliases_word" ;;
            esac
        done
    done
    [ -n "$ALIASES" ]
}

# drop_early_modules: what the root needs is loaded; the files are only memory now.
drop_early_modules() { run rm -rf "$ROOT/lib/modules"; }

# use_modules_of_root: from here on modules come from the root that now stands.
use_modules_of_root() { run mkdir -p "$ROOT/lib" && run ln -sfn "$NEW_ROOT/lib/modules" "$ROOT/lib/modules"; }
