# shellcheck shell=sh
# Memory is counted before it is taken: an image larger than memory deadlocks a kernel instead of failing.

# What the programs that build the root and the kernel's own book-keeping use besides the root itself, in KiB:
# the xz dictionary, dirty pages (DIRTY_LIMIT), inodes, page tables. Measured; see docs/boot-parameters.md.
WORKING_KIB=4096
DIRTY_LIMIT=1048576 # bytes

# read_memory: MEMORY_TOTAL and MEMORY_AVAILABLE in KiB.
read_memory() {
    MEMORY_TOTAL=0
    MEMORY_AVAILABLE=0
    while read -r memory_name memory_value _; do
        case $memory_name in
            MemTotal:) MEMORY_TOTAL=$memory_value ;;
            MemFree:) memory_free=$memory_value ;;
            MemAvailable:) MEMORY_AVAILABLE=$memory_value && break ;;
            # Kernels before 3.14 do not say what is available; what is free is on the safe side.
            Buffers:) MEMORY_AVAILABLE=$memory_free && break ;;
        esac
    done <"$ROOT/proc/meminfo"
}

# plan_memory KIB: decide how a root of KIB is unpacked. MEMORY_PLAN=keep leaves the payload until the root is verified,
# so that a second attempt is possible; =free gives every piece back as soon as it is unpacked, and is the last
# attempt by that. False, with the arithmetic in PROBLEM, when even that would not do.
plan_memory() {
    read_memory
    MEMORY_NEEDED=$(($1 + WORKING_KIB))
    MEMORY_PLAN=keep
    [ "$MEMORY_AVAILABLE" -lt "$MEMORY_NEEDED" ] || return 0
    measure_payload
    MEMORY_PLAN=free
    MEMORY_NEEDED=$((MEMORY_NEEDED - PAYLOAD_KIB))
    [ "$MEMORY_AVAILABLE" -lt "$MEMORY_NEEDED" ] || return 0
    problem "not enough memory: need $MEMORY_NEEDED KiB, have $MEMORY_AVAILABLE KiB"
}

# measure_payload: PAYLOAD_KIB = what the pieces still to be unpacked occupy.
measure_payload() {
    PAYLOAD_KIB=$(du -sk "$ROOT/payload" 2>/dev/null)
    PAYLOAD_KIB=${PAYLOAD_KIB%%[!0-9]*}
    : "${PAYLOAD_KIB:=0}"
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
