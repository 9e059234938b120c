# shellcheck shell=sh
# The last step: the root's own init becomes PID 1. switch_root that fails is a kernel panic, so everything it needs is
# looked at before.

# hand_over: does not return.
hand_over() {
    find_program "$LB_ROOT_INIT" || rescue "the root has no $LB_ROOT_INIT to hand over to"
    find_interpreter || rescue "$LB_ROOT_INIT needs $interpreter, which the root has not"
    # OpenWrt's preinit leaves root and overlay alone when INITRAMFS is set: right for a root that is only in memory and
    # on no device, wrong for every other.
    if [ "$ROOT_MODE" = tmpfs ] && [ "$STORAGE_STATE" = volatile ]; then export INITRAMFS=1; fi
    run mkdir -p "$FINAL_ROOT/dev" "$FINAL_ROOT/sys" "$FINAL_ROOT/proc"
    for hand_over_folder in dev sys proc; do # proc last: without it busybox does not find its own applets
        run "$BUSYBOX" mount -o move "$ROOT/$hand_over_folder" "$FINAL_ROOT/$hand_over_folder" ||
            rescue "/$hand_over_folder could not be moved to the new root"
    done
    trap - EXIT
    run exec "$BUSYBOX" switch_root -c /dev/console "$FINAL_ROOT" "$LB_ROOT_INIT"
}

# find_program PATH: PROGRAM = where it is, symlinks followed inside the new root, those of its folders too.
find_program() {
    program_rest=$1
    PROGRAM=''
    program_links=0
    while [ -n "$program_rest" ]; do
        program_part=${program_rest%%/*}
        program_rest=${program_rest#"$program_part"}
        program_rest=${program_rest#/}
        case $program_part in
            '' | .) continue ;;
            ..) PROGRAM=${PROGRAM%/*} && continue ;;
        esac
        if [ ! -L "$FINAL_ROOT$PROGRAM/$program_part" ]; then
            PROGRAM=$PROGRAM/$program_part
            continue
        fi
        program_links=$((program_links + 1))
        [ "$program_links" -le 40 ] || return 1 # Linux follows no more either
        program_target=$(readlink "$FINAL_ROOT$PROGRAM/$program_part")
        case $program_target in /*) PROGRAM='' ;; esac
        program_rest=$program_target/$program_rest
    done
    [ -f "$FINAL_ROOT$PROGRAM" ] && [ -x "$FINAL_ROOT$PROGRAM" ]
}

# find_interpreter: a script cannot start without the program its first line names.
find_interpreter() {
    interpreter=''
    { read -r interpreter _ <"$FINAL_ROOT$PROGRAM"; } 2>/dev/null
    case $interpreter in
        '#!') read -r _ interpreter _ <"$FINAL_ROOT$PROGRAM" ;;
        '#!'*) interpreter=${interpreter#??} ;;
        *) return 0 ;;
    esac
    find_program "$interpreter"
}
