# shellcheck shell=sh
# Kernel modules. Built in or modular is all the same here: whether something works is asked of the kernel afterwards.

# load_modules NAME…: all of them with one modprobe; names that are built in or lacking do not stop the others.
load_modules() {
    [ $# -gt 0 ] || return 0
    run modprobe -a -q "$@" 2>>"$STATE/modprobe.log" || step "modprobe: not all of: $*"
    return 0
}

# drop_early_modules: what the root needs is loaded; the files are only memory now.
drop_early_modules() { run rm -rf "$ROOT/lib/modules"; }

# use_modules_of_root: from here on modules come from the root that now stands.
use_modules_of_root() { run mkdir -p "$ROOT/lib" && run ln -sfn "$NEW_ROOT/lib/modules" "$ROOT/lib/modules"; }
