# shellcheck shell=sh
# The stick: check it, mount it, prove that it keeps what is written to it. Nothing here ever makes a file system.

STICK=$ROOT/stick
STICK_REBOOT_MARK=.livebuilder-rebooted # on the stick: e2fsck asked for a reboot, and had it
STICK_PROOF=.livebuilder-write-test
UNDO_KIB=1024 # less memory than this is not worth trying

# mount_stick NAME FSTYPE: STORAGE_STATE becomes persistent or read-only; false, with PROBLEM, when it cannot be used.
mount_stick() {
    stick_node=$ROOT/dev/$1
    run mkdir -p "$STICK"
    case $2 in
        ext?) stick_type=ext4 ;;
        *) stick_type=$2 ;;
    esac
    knows_filesystem "$stick_type" || load_modules "$stick_type"
    knows_filesystem "$stick_type" || stick_type=$2
    knows_filesystem "$stick_type" || problem "the kernel of this image has no driver for $2" || return
    if is_write_protected "$1"; then
        mount_stick_read_only "/dev/$1 is write-protected"
        return
    fi
    FSCK_VERDICT=mount
    case $2 in
        ext?) check_ext "$1" ;;
    esac
    [ "$FSCK_VERDICT" != refuse ] || return
    if ! run mount -t "$stick_type" -o noatime "$stick_node" "$STICK" 2>"$STATE/mount.log"; then
        mount_stick_read_only "/dev/$1 could not be mounted writable"
        return
    fi
    STORAGE_STATE=persistent
    prove_writable || {
        run umount "$STICK"
        mount_stick_read_only "/dev/$1 does not keep what is written to it"
        return
    }
    reboot_once
}

# is_write_protected NAME: the switch on the stick, as the kernel sees it.
is_write_protected() {
    protected=0
    { read -r protected <"$ROOT/sys/class/block/$1/ro"; } 2>/dev/null
    [ "$protected" = 1 ]
}

# mount_stick_read_only REASON: as a layer to be seen, without replaying a journal that could not be written.
mount_stick_read_only() {
    STORAGE_REASON=$1
    STORAGE_STATE=read-only
    case $stick_type in
        ext?) stick_no_journal=noload ;;
        f2fs) stick_no_journal=norecovery ;;
        *) stick_no_journal=rescue=nologreplay ;;
    esac
    run mount -t "$stick_type" -o ro,noatime "$stick_node" "$STICK" 2>"$STATE/mount.log" ||
        run mount -t "$stick_type" -o "ro,noatime,$stick_no_journal" "$stick_node" "$STICK" 2>>"$STATE/mount.log" ||
        problem "$1, nor read-only either"
}

# check_ext NAME: e2fsck -p with the tools of the new root. STORAGE_FSCK = its exit code; FSCK_VERDICT = mount, reboot or
# refuse. What is refused is afterwards as it was before: e2fsck writes for a while until it gives up.
check_ext() {
    find_tool e2fsck || {
        warn "/dev/$1 was not checked: this root has no e2fsck"
        return 0
    }
    check_tool=$TOOL
    run mkdir -p "$NEW_ROOT/dev" "$NEW_ROOT/proc"
    run mount -o bind "$ROOT/dev" "$NEW_ROOT/dev"
    run mount -o bind "$ROOT/proc" "$NEW_ROOT/proc"
    check_reversibly "$1"
    run umount "$NEW_ROOT/proc"
    run umount "$NEW_ROOT/dev"
    fsck_verdict "$check_code"
    case $FSCK_VERDICT in
        unchecked)
            warn "/dev/$1 was not checked: $check_tool of this root does not run (exit $check_code)"
            FSCK_VERDICT=mount
            return
            ;;
        refuse) problem "e2fsck could not repair /dev/$1 (exit $check_code): run e2fsck -f on it by hand" ;;
    esac
    STORAGE_FSCK=$check_code
}

# check_reversibly NAME: check_code, with the blocks that e2fsck overwrites kept in memory (e2fsck -z) until it is known
# to have got through. An e2fsck before 1.43 has no such option (16, usage), and the memory may not do: then it is
# checked without.
check_reversibly() {
    check_undo=/dev/e2undo
    if ! find_tool e2undo || ! make_undo_folder; then
        run_e2fsck "$1"
        return
    fi
    run_e2fsck "$1" -z "$check_undo/$1"
    if [ "$check_code" = 16 ] || undo_folder_is_full; then
        run_e2fsck "$1"
    elif [ "$check_code" -ge 4 ] && [ -e "$NEW_ROOT$check_undo/$1" ]; then
        run chroot "$NEW_ROOT" "$TOOL" "$check_undo/$1" "/dev/$1" 2>"$STATE/undo.log" ||
            warn "what e2fsck had changed on /dev/$1 could not be put back (e2undo exit $?)"
    fi
    run umount "$NEW_ROOT$check_undo"
    run rm -rf "$ROOT$check_undo"
}

# run_e2fsck NAME [OPTION…]
run_e2fsck() {
    check_name=$1
    shift
    run chroot "$NEW_ROOT" "$check_tool" -p "$@" "/dev/$check_name" >"$STATE/fsck.log" 2>&1
    check_code=$?
    while IFS= read -r check_line; do step "e2fsck: $check_line"; done <"$STATE/fsck.log"
}

# make_undo_folder: below the /dev that the new root sees, so that it leaves no trace; false when memory is short.
make_undo_folder() {
    undo_kib=$((MEMORY_FOR_STICK - STICK_KIB))
    [ "$undo_kib" -ge "$UNDO_KIB" ] || return
    run mkdir -p "$ROOT$check_undo" &&
        run mount -t tmpfs -o "mode=0700,size=${undo_kib}k" undo "$NEW_ROOT$check_undo" || return
}

undo_folder_is_full() {
    undo_free=$(stat -f -c %f "$NEW_ROOT$check_undo") # blocks of 4 KiB
    [ "${undo_free:-0}" -lt 16 ]
}

# find_tool NAME: TOOL = where the new root has it.
find_tool() {
    TOOL=''
    for tool_folder in /sbin /usr/sbin /bin /usr/bin; do
        [ ! -x "$NEW_ROOT$tool_folder/$1" ] || TOOL=$tool_folder/$1
    done
    [ -n "$TOOL" ]
}

# fsck_verdict CODE: fsck(8) adds up 1 = errors corrected, 2 = reboot, 4 = errors left, 8 = operational error, 16 =
# usage, 32 = cancelled, 128 = library error. 126 and 127 come from the shell: the program did not run.
fsck_verdict() {
    case $1 in
        126 | 127) FSCK_VERDICT=unchecked ;;
        0 | 1) FSCK_VERDICT=mount ;;
        2 | 3) FSCK_VERDICT=reboot ;;
        *) FSCK_VERDICT=refuse ;;
    esac
}

# reboot_once: when e2fsck asks for it, but never twice in a row: the mark stands on the stick.
reboot_once() {
    stick_mark=$STICK/$STICK_REBOOT_MARK
    if [ "$FSCK_VERDICT" = reboot ] && [ ! -e "$stick_mark" ] && run touch "$stick_mark"; then
        say "e2fsck repaired /dev/${stick_node##*/} and asks for a reboot (exit $STORAGE_FSCK): rebooting once"
        run umount "$STICK"
        run sync
        run reboot -f
        problem "the reboot that e2fsck asked for did not happen"
        return
    fi
    [ ! -e "$stick_mark" ] || run rm -f "$stick_mark"
}

# prove_writable: STICK_FULL, and: a file written down to the medium, read back, removed. A full stick is no broken one.
prove_writable() {
    proof_file=$STICK/$STICK_PROOF
    STICK_FULL=no
    clock
    proof_text="$LB_NAME $NOW"
    proof_back=''
    printf '%s\n' "$proof_text" | run dd of="$proof_file" conv=fsync 2>"$STATE/proof.log"
    proof_status=$?
    { read -r proof_back <"$proof_file"; } 2>/dev/null
    run rm -f "$proof_file" 2>/dev/null
    [ "$proof_status" -eq 0 ] && [ "$proof_back" = "$proof_text" ] && return
    while IFS= read -r proof_line; do
        case $proof_line in
            *"No space left on device"*)
                STICK_FULL=yes
                warn "/dev/${stick_node##*/} is full: nothing more can be saved until something on it is deleted"
                return 0
                ;;
        esac
        step "write test: $proof_line"
    done <"$STATE/proof.log"
    return 1
}
