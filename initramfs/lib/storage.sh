# shellcheck shell=sh
# The extroot step: which stick this boot keeps its settings on, and what became of it.

STORAGE_STATE=volatile
STORAGE_REASON=''
STORAGE_DEVICE=''
STORAGE_LABEL='' # UTF-8 in hex
STORAGE_UUID=''
STORAGE_FSTYPE=''
STORAGE_FSCK=''
SEARCH_WAITED=0

# find_storage: look for the label, take one stick, mount it. The record and the overlay follow from the STORAGE_ facts.
find_storage() {
    if [ "$STORAGE_WANTED" = no ]; then
        STORAGE_REASON='switched off with lb.storage=off'
        return
    fi
    if ! expect_memory_for_stick; then
        STORAGE_REASON=$PROBLEM
        return
    fi
    step "storage: waiting up to $LB_STORAGE_SETTLE s for a stick labelled $LB_STORAGE_LABEL"
    start_search
    # shellcheck disable=SC2086 # a list of names
    load_modules $LB_MODULES_STORAGE overlay # the last while there is time: it is needed when the stick is found
    hurry_usb
    search "$LB_STORAGE_LABEL" "$LB_STORAGE_SETTLE"
    unhurry_usb
    if ! choose; then
        explain_absence
        return
    fi
    # shellcheck disable=SC2086 # its fields
    set -- $CHOSEN
    STORAGE_DEVICE=/dev/$1
    STORAGE_FSTYPE=$2
    STORAGE_UUID=${3#-}
    STORAGE_LABEL=${4#-}
    mount_stick "$1" "$2" && return
    STORAGE_STATE=volatile
    STORAGE_REASON=$PROBLEM
}

# explain_absence: nobody should have to guess why settings are not kept.
explain_absence() {
    STORAGE_REASON="no stick labelled $LB_STORAGE_LABEL"
    absence_rest=$CANDIDATES
    while next_line "$absence_rest"; do
        absence_rest=$REST
        # shellcheck disable=SC2086 # its fields
        set -- $LINE
        if [ "$5" = refused ]; then
            STORAGE_REASON="/dev/$1 is labelled $LB_STORAGE_LABEL, but $2 cannot hold settings: ext4, f2fs or btrfs can"
        fi
    done
}

# cure NAME FSTYPE UUID LABEL VERDICT: CURE = the command that would make this candidate the stick; empty when only a new
# file system would, or when the label is not what is wrong with it.
cure() {
    CURE=''
    [ "$5" != match ] || return 0
    shell_word "$LB_STORAGE_LABEL"
    case $2 in
        ext?) CURE="e2label /dev/$1 $WORD" ;;
        f2fs) CURE="f2fslabel /dev/$1 $WORD" ;;
        btrfs) CURE="btrfs filesystem label /dev/$1 $WORD" ;;
    esac
}
