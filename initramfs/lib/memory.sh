# shellcheck shell=sh
# Memory is counted before it is taken: an image larger than memory deadlocks a kernel instead of failing.

# KiB on top of the root itself, measured with Linux 6.1 on i386.
WORKING_KIB=2560  # while unpacking: the xz dictionary, dirty pages, inodes, what the kernel keeps free
DRIVERS_KIB=3072  # loop and ext4, when they are modules
LEFT_KIB=6144     # what an ext2 root must leave for the stick's drivers and the router; else the smaller tmpfs it is
STICK_KIB=8192    # drivers for USB and the stick's file system, e2fsck, the overlay: 6 MiB, and some to go on with
DIRTY_LIMIT=1048576 # bytes that may wait to be written

# read_memory: MEMORY_TOTAL and MEMORY_AVAILABLE in KiB. MemAvailable counts half of the reclaimable slab in; at this
# moment that is tracefs and the like and never comes back, so what is free or page cache of a real file is the limit.
read_memory() {
    MEMORY_TOTAL=0
    MEMORY_AVAILABLE=''
    memory_usable=0
    memory_shared=0
    while read -r memory_name memory_value _; do
        case $memory_name in
            MemTotal:) MEMORY_TOTAL=$memory_value ;;
            MemAvailable:) MEMORY_AVAILABLE=$memory_value ;;
            MemFree: | Buffers: | Cached:) memory_usable=$((memory_usable + memory_value)) ;;
            Shmem:) memory_shared=$memory_value && break ;;
        esac
    done <"$ROOT/proc/meminfo"
    memory_usable=$((memory_usable - memory_shared))
    # Kernels before 3.14 have no MemAvailable.
    [ "${MEMORY_AVAILABLE:-$memory_usable}" -lt "$memory_usable" ] || MEMORY_AVAILABLE=$memory_usable
}

# expect_memory KIB: is that much to be had? False, with the arithmetic in PROBLEM, when it is not.
expect_memory() {
    read_memory
    MEMORY_NEEDED=$1
    [ "$MEMORY_AVAILABLE" -lt "$1" ] || return 0
    problem "not enough memory for $ROOT_MODE: need $1 KiB, have $MEMORY_AVAILABLE KiB"
}

# expect_memory_beside_router KIB: that much, and what it takes to work now, or to run the router then if that is more.
expect_memory_beside_router() {
    memory_beside=$WORKING_KIB
    [ "$memory_beside" -ge "${LB_SYSTEM_KIB:-0}" ] || memory_beside=$LB_SYSTEM_KIB
    expect_memory $(($1 + memory_beside))
}

# expect_memory_for_stick: MEMORY_FOR_STICK in KiB; a root without its settings is worth more than one that the kernel
# kills. The sums of the root stay as they are, for the record.
expect_memory_for_stick() {
    stick_before="$MEMORY_TOTAL $MEMORY_AVAILABLE"
    read_memory
    MEMORY_FOR_STICK=$MEMORY_AVAILABLE
    MEMORY_TOTAL=${stick_before% *}
    MEMORY_AVAILABLE=${stick_before#* }
    [ "$MEMORY_FOR_STICK" -lt "$STICK_KIB" ] || return 0
    problem "not enough memory for the stick: need $STICK_KIB KiB, have $MEMORY_FOR_STICK KiB"
}

# measure_payload: PAYLOAD_KIB = what occupies memory only until it is in the root: the pieces, the modules.
measure_payload() {
    PAYLOAD_KIB=0
    for payload_part in "$ROOT/payload" "$ROOT/lib/modules"; do
        payload_kib=$(du -sk "$payload_part" 2>/dev/null)
        payload_kib=${payload_kib%%[!0-9]*}
        PAYLOAD_KIB=$((PAYLOAD_KIB + ${payload_kib:-0}))
    done
}

# limit_dirty_pages / restore_dirty_pages: while unpacking, little may wait in memory to be written. Afterwards the
# kernel's own defaults count again (the shell reads a byte at a time, which /proc/sys does not give for numbers).
limit_dirty_pages() {
    echo $((DIRTY_LIMIT / 2)) >"$ROOT/proc/sys/vm/dirty_background_bytes"
    echo "$DIRTY_LIMIT" >"$ROOT/proc/sys/vm/dirty_bytes"
} 2>/dev/null
restore_dirty_pages() {
    echo 10 >"$ROOT/proc/sys/vm/dirty_background_ratio"
    echo 20 >"$ROOT/proc/sys/vm/dirty_ratio"
} 2>/dev/null
