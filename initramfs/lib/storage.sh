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
    start_disk_drivers
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
        cure "$@"
        absence_labelled="/dev/$1 is labelled $LB_STORAGE_LABEL, but"
        characters_from_hex "${4#-}" plain
        case $5 in
            refused) STORAGE_REASON="$absence_labelled $2 cannot hold settings: ext4, f2fs or btrfs can" ;;
            front) STORAGE_REASON="$absence_labelled has partitions, and none of them is: $CURE" ;;
            near)
                absence_meant="but /dev/$1 (${TEXT:-no label}) seems to be meant: $CURE"
                STORAGE_REASON="no stick labelled $LB_STORAGE_LABEL, $absence_meant"
                ;;
        esac
    done
}

# start_disk_drivers: IDE, SATA and SCSI controllers by what the PCI bus says of them (class 01: mass storage), for a disk
# or a CF card in an adapter. While sticks are waited for, since modprobe waits until an empty channel has answered.
start_disk_drivers() {
    find_aliases pci 'pci:*bc01*' || return 0
    : >"$STATE/$DISKS_PENDING"
    {
        # shellcheck disable=SC2086 # a word each
        load_modules $ALIASES
        run rm -f "$STATE/$DISKS_PENDING"
    } &
}

# cure NAME FSTYPE UUID LABEL VERDICT: CURE = the command that would make this candidate the stick, empty for what nobody
# would make one of; CURE_ERASES = whether it would erase what is there, which only a person may decide; CURE_HERE =
# whether this system has the program. Both are true or false.
cure() {
    CURE=''
    CURE_ERASES=false
    CURE_HERE=false
    case $5 in
        match) return ;;
        front) CURE="livebuilder usb adopt /dev/$1" && return ;; # on a PC that has it: there are partitions to look at
    esac
    shell_word "$LB_STORAGE_LABEL"
    case $2 in
        ext?) CURE="e2label /dev/$1 $WORD" ;;
        f2fs) CURE="f2fslabel /dev/$1 $WORD" ;;
        btrfs) CURE="btrfs filesystem label /dev/$1 $WORD" ;;
        iso9660 | unreadable) return ;; # the medium of this very system, or a broken one
        *)
            CURE="mke2fs -t ext4 -L $WORD /dev/$1"
            CURE_ERASES=true
            ;;
    esac
    ! find_tool "${CURE%% *}" || CURE_HERE=true
}

# cure_in_words: CURE_WORDS, the end of a line on the console.
cure_in_words() {
    CURE_WORDS=''
    [ -n "$CURE" ] || return 0
    CURE_WORDS=" -- to use it: $CURE"
    [ "$CURE_ERASES" = false ] || CURE_WORDS=" -- to erase and use it: $CURE"
    [ "$CURE_HERE" = true ] || CURE_WORDS="$CURE_WORDS (on another system: this one has no ${CURE%% *})"
}
