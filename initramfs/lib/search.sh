# shellcheck shell=sh
# Find the stick: every block device is looked at once, when it appears, until one carries the label or time is up.

POLL=0.1 # seconds between two looks
# Hundredths of a second: at power-on a twin may be a moment behind, so a match is taken when no new device came for
# QUIET. What comes after EARLY was put in by hand, one at a time, and is taken at once.
QUIET=50
EARLY=500

DISKS_PENDING=disks-pending # a file in STATE: drivers are being loaded, a disk may still turn up

# One line each: NAME FSTYPE UUID LABEL(hex) VERDICT; "-" stands for nothing. The verdict is one of
#   match    the label, on a file system that can be used
#   refused  the label, on one that cannot
#   near     ROOTFS_DATA, rootfs-data and the like, or a partition that is named so while its file system is not
#   front    the label on a disk that has partitions, in front of them
#   other    nothing of the kind
CANDIDATES=''
SEARCH_SEEN=' '
KEYBOARD=none

# start_search: the clock that bounds it, drivers that have to be loaded included.
start_search() {
    clock
    search_started=$NOW
    search_newest=$NOW
}

# search LABEL SECONDS: fills CANDIDATES; true as soon as one matches. SEARCH_WAITED in hundredths of a second.
search() {
    hex_of "$1"
    search_label=$HEX
    hex_letters "$HEX"
    search_label_letters=$HEX
    search_label_plain=$1
    while :; do
        look_around
        clock
        SEARCH_WAITED=$((NOW - search_started))
        case $CANDIDATES in
            *" match
"*)
                ! search_is_over "$2" || return 0
                ;;
            *) [ "$SEARCH_WAITED" -lt $(($2 * 100)) ] || return 1 ;;
        esac
        wake_keyboard
        [ -n "$LOOK_NEW" ] || run sleep "$POLL"
    done
}

# search_is_over SECONDS: there is a match; may another one still come?
search_is_over() {
    [ "$SEARCH_WAITED" -lt $(($1 * 100)) ] || return 0
    [ ! -e "$STATE/$DISKS_PENDING" ] || return
    [ -z "$LOOK_NEW" ] || return
    [ "$SEARCH_WAITED" -ge "$EARLY" ] || [ $((NOW - search_newest)) -ge "$QUIET" ]
}

# hurry_usb / unhurry_usb: a stick put in while we wait need not rest the second that usb-storage gives it by default.
# A value of the user's own (usb-storage.delay_use=N) stays.
hurry_usb() { set_usb_delay 1 0; }
unhurry_usb() { set_usb_delay 0 1; }
set_usb_delay() {
    usb_delay=$ROOT/sys/module/usb_storage/parameters/delay_use
    usb_delay_now=''
    { read -r usb_delay_now <"$usb_delay"; } 2>/dev/null
    [ "$usb_delay_now" != "$1" ] || echo "$2" >"$usb_delay"
}

# wake_keyboard: once Linux has a USB controller the BIOS no longer serves the keyboard on it, on which somebody may want
# to type an f, or yes.
wake_keyboard() {
    [ "$KEYBOARD" = none ] && find_aliases usb 'usb:*ic03isc01ip01*' || return 0
    KEYBOARD=usb
    load_modules usbhid hid-generic &
}

# look_around: at devices that were not there before; those that went are forgotten. LOOK_NEW names the new ones: a
# disk's partitions come one by one, so look again before you decide.
look_around() {
    LOOK_NEW=''
    look_present=' '
    for look_path in "$ROOT"/sys/class/block/*; do
        look_name=${look_path##*/}
        case $look_name in
            # Nothing that could be a stick: memory, CD (its first read takes seconds), floppy (so does every read).
            loop* | ram* | zram* | sr* | fd* | nbd* | mtd* | \*) continue ;;
        esac
        look_present="$look_present$look_name "
        case $SEARCH_SEEN in
            *" $look_name "*) continue ;;
        esac
        if look_at "$look_name"; then
            SEARCH_SEEN="$SEARCH_SEEN$look_name "
            LOOK_NEW="$LOOK_NEW $look_name"
            clock
            search_newest=$NOW
        fi
    done
    [ "$look_present" = "$SEARCH_SEEN" ] || forget_absent
}

# look_at NAME: add it to CANDIDATES unless it only holds others. False: not ready, look again.
look_at() {
    look_size=0
    { read -r look_size <"$ROOT/sys/class/block/$1/size"; } 2>/dev/null
    [ "$look_size" -gt 0 ] || return # a card reader without a card
    [ "$look_size" -ge 8 ] || return 0 # an extended partition: 1 KiB that only stands for those within
    block_node "$1" || return
    for look_partition in "$ROOT/sys/class/block/$1/$1"*/partition; do
        [ ! -e "$look_partition" ] || {
            look_in_front "$1"
            return 0
        }
    done
    if ! read_superblock "$DEVICE_NODE"; then
        FS_TYPE=unreadable
        step "$1 cannot be read"
    fi
    [ "$FS_TYPE" != table ] || return 0
    judge "$1"
    add_candidate "$1"
}

add_candidate() {
    CANDIDATES="$CANDIDATES$1 ${FS_TYPE:--} ${FS_UUID:--} ${FS_LABEL:--} $VERDICT
"
    characters_from_hex "$FS_LABEL" plain
    step "storage: $1 is ${FS_TYPE:-unknown}, label \"$TEXT\": $VERDICT"
}

# look_in_front NAME: of a disk that has partitions only these can be used, but somebody may have labelled the disk.
look_in_front() {
    read_superblock "$DEVICE_NODE" || return 0
    case $FS_TYPE-$FS_LABEL in
        ext?-"$search_label" | f2fs-"$search_label" | btrfs-"$search_label")
            VERDICT=front
            add_candidate "$1"
            ;;
    esac
}

# judge NAME: VERDICT on what read_superblock found.
judge() {
    VERDICT=other
    hex_letters "$FS_LABEL"
    case $FS_TYPE in
        ext[234] | f2fs | btrfs)
            if [ "$FS_LABEL" = "$search_label" ]; then
                VERDICT=match
            elif [ "$HEX" = "$search_label_letters" ] || has_partition_name "$1"; then
                VERDICT=near
            fi
            ;;
        ?*) [ "$HEX" != "$search_label_letters" ] || VERDICT=refused ;; # FAT knows capitals only
    esac
}

# has_partition_name NAME: does the partition table give it the name that its file system should have as a label?
has_partition_name() {
    while IFS= read -r partition_word; do
        [ "$partition_word" != "PARTNAME=$search_label_plain" ] || return 0
    done <"$ROOT/sys/class/block/$1/uevent"
    return 1
} 2>/dev/null

# forget_absent: what was unplugged is no candidate any more.
forget_absent() {
    forget_seen=' '
    for forget_name in $SEARCH_SEEN; do
        case $look_present in
            *" $forget_name "*) forget_seen="$forget_seen$forget_name " ;;
        esac
    done
    SEARCH_SEEN=$forget_seen
    forget_kept=''
    forget_rest=$CANDIDATES
    while next_line "$forget_rest"; do
        forget_rest=$REST
        case $look_present in
            *" ${LINE%% *} "*) forget_kept="$forget_kept$LINE
" ;;
        esac
    done
    CANDIDATES=$forget_kept
}

# next_line TEXT: LINE = its first line, REST = what follows; false when TEXT is empty.
next_line() {
    LINE=${1%%
*}
    REST=${1#*
}
    [ -n "$1" ]
}

# choose: CHOSEN = the line of the match whose UUID sorts first (and of clones the one whose name does): a property of
# the sticks, not of the port or of which one was quicker.
choose() {
    choose_count=0
    choose_lines=''
    choose_names=''
    choose_rest=$CANDIDATES
    while next_line "$choose_rest"; do
        choose_rest=$REST
        case $LINE in
            *" match") ;;
            *) continue ;;
        esac
        choose_count=$((choose_count + 1))
        CHOSEN=$LINE
        # shellcheck disable=SC2086 # its fields
        set -- $LINE
        choose_lines="$choose_lines$3 $LINE
"
        choose_names="$choose_names${choose_names:+ and }/dev/$1 ($3)"
    done
    [ "$choose_count" -gt 0 ] || return
    [ "$choose_count" -gt 1 ] || return 0
    CHOSEN=$(printf '%s' "$choose_lines" | LC_ALL=C sort | head -n 1)
    CHOSEN=${CHOSEN#* }
    characters_from_hex "$search_label" plain
    warn "$choose_count devices are labelled $TEXT: $choose_names; taking /dev/${CHOSEN%% *}, whose UUID sorts first"
}
