# shellcheck shell=sh
# Kernel modules. Built in or modular is all the same here: whether something works is asked of the kernel afterwards.

# load_modules NAME…: all of them with one modprobe; names that are built in or lacking do not stop the others.
load_modules() {
    [ $# -gt 0 ] || return 0
    run modprobe -a -q "$@" 2>>"$STATE/modprobe.log" || step "modprobe: not all of: $*"
    return 0
}

# free_early_modules: from here on modules come from the root that now stands; their first copies are only memory.
free_early_modules() {
    read -r modules_release <"$ROOT/proc/sys/kernel/osrelease"
    modules_early=$ROOT/lib/modules/$modules_release
    modules_new=$NEW_ROOT/lib/modules/$modules_release
    [ -d "$modules_new" ] || return 0
    run rm -rf "$modules_early" && run mkdir -p "$ROOT/lib/modules" && run ln -s "$modules_new" "$modules_early"
}
