# shellcheck shell=sh
# The root: an ext2 file system in an image in memory, behind a loop device, filled once from the payload. When that
# cannot be had, the same payload in a tmpfs. (A squashfs is not made but mounted: squashfs.sh.)

ATTEMPT_LIMIT=3 # each one an eighth larger than the one before
EXT2_OWN_INODES=11 # ten reserved ones (the root folder among them) and lost+found
EXT2_UUID_OFFSET=$((1024 + 0x68)) # superblock, s_uuid

NEW_ROOT=$ROOT/newroot
IMAGE_FOLDER=$ROOT/image
IMAGE=$IMAGE_FOLDER/root.ext2
LAYER=$IMAGE_FOLDER/layer.cpio

# build_root: NEW_ROOT is a verified root afterwards, or there is a rescue shell.
build_root() {
    clock
    root_started=$NOW
    ROOT_REASON=''
    ROOT_ATTEMPTS=0
    run mkdir -p "$NEW_ROOT" "$IMAGE_FOLDER"
    case $LB_ROOT_MODE in
        squashfs) build_squashfs_root || rescue "the root could not be built: $PROBLEM" ;;
        *) fill_root ;;
    esac
    clock
    ROOT_TOOK=$((NOW - root_started))
    seconds "$ROOT_TOOK" 2
    step "root: $ROOT_MODE, $((ROOT_USED_BYTES / 1024)) of $((ROOT_SIZE_BYTES / 1024)) KiB used, $SECONDS_TEXT s"
}

# fill_root: an empty file system, and the payload in it.
fill_root() {
    if [ "$LB_ROOT_MODE" = tmpfs ] || ! build_ext2_root; then
        [ "$LB_ROOT_MODE" = tmpfs ] || ROOT_REASON=$PROBLEM
        build_tmpfs_root || rescue "the root could not be built: ${ROOT_REASON:+$ROOT_REASON; }$PROBLEM"
    fi
    restore_dirty_pages
    drop_payload
}

# build_ext2_root: make, fill, verify; a little larger when it did not fit. The payload stays whole all the while, so
# that there can be a next attempt, or a tmpfs.
build_ext2_root() {
    ROOT_MODE=ext2
    ROOT_DEVICE=/dev/loop$LB_ROOT_LOOP
    if ! knows_filesystem ext2 && ! knows_filesystem ext4; then
        expect_memory $((LB_ROOT_KIB + DRIVERS_KIB + LEFT_KIB)) || return
    fi
    # shellcheck disable=SC2086 # a list of names
    load_modules $LB_MODULES_ROOT
    knows_filesystem ext2 || knows_filesystem ext4 || problem "the kernel has neither ext2 nor ext4" || return
    make_loop_nodes || return
    root_kib=$LB_ROOT_KIB
    while [ "$ROOT_ATTEMPTS" -lt "$ATTEMPT_LIMIT" ]; do
        ROOT_ATTEMPTS=$((ROOT_ATTEMPTS + 1))
        root_full=no
        step "root: attempt $ROOT_ATTEMPTS, ext2 of $root_kib KiB"
        if make_root_image "$root_kib" && unpack_payload "$NEW_ROOT" && verify_root "$EXT2_OWN_INODES"; then
            drop_early_modules
            return
        fi
        discard_root_image
        [ "$root_full" = yes ] || return 1
        root_kib=$((root_kib + root_kib / 8))
    done
    problem "the root does not fit after $ATTEMPT_LIMIT attempts: $PROBLEM"
}

# make_loop_nodes: the loop device, and the name the root is mounted by. Up to OpenWrt 12.09 extroot works only on a root
# that was mounted as /dev/root; a number other than 0 because up to 23.05 loop0 (7,0) is mistaken for /dev/vcs (7,0).
make_loop_nodes() {
    root_node=$ROOT$LB_ROOT_SOURCE
    for loop_node in "$ROOT/dev/loop$LB_ROOT_LOOP" "$root_node"; do
        [ -e "$loop_node" ] || run mknod -m 600 "$loop_node" b 7 "$LB_ROOT_LOOP" ||
            problem "mknod $loop_node failed" || return
    done
}

# make_root_image KIB: an empty file system of that size, mounted. Its memory is really allocated first: a sparse image
# takes writes that are lost later, when there is nothing to put them into.
make_root_image() {
    expect_memory $(($1 + LEFT_KIB)) || return
    unpack_roomily || limit_dirty_pages
    # The limit leaves room for a layer beside the image (unpack_roomily); the first tmpfs is limited to half of memory.
    run mount -t tmpfs -o "size=$(($1 * 2 + 64))k,mode=0700" image "$IMAGE_FOLDER" || problem "tmpfs of $1 KiB failed" ||
        return
    run fallocate -l "$(($1 * 1024))" "$IMAGE" || problem "$1 KiB for the image could not be allocated" || return
    make_ext2 "$1" && write_uuid "$LB_ROOT_UUID" || return
    run losetup "$ROOT/dev/loop$LB_ROOT_LOOP" "$IMAGE" || problem "losetup /dev/loop$LB_ROOT_LOOP failed" || return
    run mount -t ext2 -o noatime "$root_node" "$NEW_ROOT" 2>/dev/null ||
        run mount -t ext4 -o noatime "$root_node" "$NEW_ROOT" || problem "the ext2 image cannot be mounted" || return
    mount_options "$NEW_ROOT" || problem "nothing is mounted at $NEW_ROOT" || return
    expect_room
}

# make_ext2 KIB. busybox takes a random UUID from /dev/urandom, which on an old machine waits a second for entropy; it is
# replaced at once (write_uuid), so the device is put out of sight meanwhile.
make_ext2() {
    ext2_random=$ROOT/dev/urandom
    [ -e "$ext2_random" ] && run mv "$ext2_random" "$ext2_random.away"
    run mke2fs -F -m 0 -b "$LB_ROOT_BLOCK_SIZE" -i "$LB_ROOT_BYTES_PER_INODE" "$IMAGE" "$1" >"$STATE/mke2fs.log" 2>&1
    ext2_status=$?
    [ -e "$ext2_random.away" ] && run mv "$ext2_random.away" "$ext2_random"
    [ "$ext2_status" -eq 0 ] || problem "mke2fs failed (exit $ext2_status)"
}

# write_uuid UUID: into the superblock, where mke2fs put a random one; OpenWrt's extroot refuses a stick when the root's
# UUID changes from boot to boot.
write_uuid() {
    [ -n "$1" ] || return 0
    uuid_bytes=''
    hex_rest=$1
    while [ -n "$hex_rest" ]; do
        hex_rest=${hex_rest#-}
        take_byte
        octal "$hex_value"
        uuid_bytes=$uuid_bytes$OCTAL
    done
    printf '%b' "$uuid_bytes" |
        run dd of="$IMAGE" bs=8 seek=$((EXT2_UUID_OFFSET / 8)) conv=notrunc 2>"$STATE/uuid.log" ||
        problem "the root's UUID could not be written"
}

# read_room: blocks and inodes of the file system at NEW_ROOT.
read_room() {
    # shellcheck disable=SC2046 # six numbers
    set -- $(stat -f -c '%S %b %f %c %d' "$NEW_ROOT")
    [ $# -eq 5 ] || problem "stat -f $NEW_ROOT failed" || return
    ROOT_SIZE_BYTES=$(($1 * $2))
    ROOT_USED_BYTES=$(($1 * ($2 - $3)))
    room_kib=$(($1 * $3 / 1024))
    room_inodes=$5
    used_inodes=$(($4 - $5))
}

# expect_room: before anything is unpacked, is there room for what the builder counted?
expect_room() {
    read_room || return
    [ "$room_inodes" -ge "$LB_ROOT_ENTRIES" ] && [ "$room_kib" -ge "$LB_ROOT_DATA_KIB" ] && return
    root_full=yes
    problem "$LB_ROOT_DATA_KIB KiB and $LB_ROOT_ENTRIES inodes do not fit into $room_kib KiB and $room_inodes inodes"
}

# unpack_payload TARGET: every layer, in the order of its name, and what the initramfs itself has of the root.
unpack_payload() {
    unpack_before=''
    for unpack_piece in "$ROOT"/payload/*.cpio*; do
        [ -e "$unpack_piece" ] || problem "there is no payload in this initramfs" || return
        unpack_layer=${unpack_piece##*/}
        unpack_layer=${unpack_layer%%.*}
        [ "$unpack_layer" = "$unpack_before" ] && continue
        unpack_before=$unpack_layer
        unpack_pieces "$1" "$ROOT/payload/$unpack_layer".*.cpio* || return
    done
    own_links "$1" && copy_shared "$1"
}

# own_links TARGET: symbolic links that are not root's. busybox cpio gives every file but them to its owner; the builder
# lists them, a list for each owner.
own_links() {
    for own_list in "$ROOT"/payload/links.*; do
        [ -e "$own_list" ] || return 0
        (cd "$1" && run xargs -0 chown -h "${own_list##*.}") <"$own_list" ||
            problem "the symbolic links of ${own_list##*.} could not be given to their owner" || return
    done
}

# copy_shared TARGET: files of the root that this initramfs needs too travel once, here; LB_SHARED are their paths.
copy_shared() {
    [ -n "$LB_SHARED" ] || return 0
    if [ "$ROOT_MODE" = ext2 ]; then
        # shellcheck disable=SC2086 # a list of paths
        (cd "$ROOT/" && run cp -p --parents $LB_SHARED "$1") || unpack_failed "what /init has of the root" "cp exit $?"
        return
    fi
    for shared_path in $LB_SHARED; do
        run cp -p "$ROOT/$shared_path" "$1/$shared_path" || unpack_failed "/$shared_path" "cp exit $?" || return
        case $shared_path in
            lib/modules/*) run rm "$ROOT/$shared_path" ;; # memory is short; the programs still run
        esac
    done
}

# unpack_pieces TARGET PIECE…: one archive, cut into pieces that are compressed each on its own.
unpack_pieces() {
    unpack_target=$1
    shift
    : >"$STATE/damaged"
    if unpack_roomily; then
        stream_pieces "$@" >"$LAYER" && (cd "$unpack_target" && run cpio -idmu) <"$LAYER" 2>"$STATE/cpio.log"
    else
        stream_pieces "$@" | (cd "$unpack_target" && run cpio -idmu) 2>"$STATE/cpio.log"
    fi
    unpack_status=$?
    [ ! -e "$LAYER" ] || run rm "$LAYER"
    unpack_damaged=''
    read -r unpack_damaged <"$STATE/damaged"
    [ "$unpack_status" -ne 0 ] || [ -n "$unpack_damaged" ] || return 0
    while read -r unpack_line; do step "cpio: $unpack_line"; done <"$STATE/cpio.log"
    unpack_failed "layer $unpack_layer" "cpio exit $unpack_status${unpack_damaged:+, $unpack_damaged}"
}

# unpack_roomily: is there memory for a whole layer, unpacked, beside the image? By way of a file it takes a quarter less
# time than through a pipe, at whose ends the two programs take turns for every few KiB.
unpack_roomily() {
    [ "$ROOT_MODE" = ext2 ] && [ "$MEMORY_AVAILABLE" -ge $((MEMORY_NEEDED + LB_ROOT_KIB)) ]
}

# unpack_failed WHAT HOW: false. A full file system stops cpio, and then the decompressor too: that is no damage.
unpack_failed() {
    read_room || return
    if [ "$room_kib" -lt 64 ] || [ "$room_inodes" -lt 4 ]; then
        root_full=yes
        problem "$1 does not fit: $room_kib KiB and $room_inodes inodes left"
    else
        problem "$1 could not be unpacked ($2)"
    fi
}

# stream_pieces PIECE…: their content, one after the other; each is emptied behind us when this is the last way.
stream_pieces() {
    for stream_piece; do
        case $stream_piece in
            *.xz) xz -dc "$stream_piece" ;;
            *.gz) gunzip -c "$stream_piece" ;;
            *) cat "$stream_piece" ;;
        esac || {
            echo "${stream_piece##*/} exit $?" >"$STATE/damaged"
            return 1
        }
        [ "$ROOT_MODE" != tmpfs ] || : >"$stream_piece"
    done
}

# verify_root INODES: was everything written that was to be? INODES the file system uses for itself.
verify_root() {
    run sync || problem "sync failed: the root was not written completely" || return
    [ "$ROOT_MODE" != ext2 ] || no_lost_writes || return
    read_room || return
    [ $((used_inodes - $1)) -ge "$LB_ROOT_ENTRIES" ] ||
        problem "only $((used_inodes - $1)) of $LB_ROOT_ENTRIES entries of the root were unpacked"
}

# no_lost_writes: false when the kernel complained about the loop device since this attempt began.
no_lost_writes() {
    lost_line=$(dmesg | awk -v loop="loop$LB_ROOT_LOOP" -v start="root: attempt $ROOT_ATTEMPTS," '
        index($0, start) { bad = "" }
        index($0, loop) && /error|lost/ { bad = $0 }
        END { print bad }')
    [ -z "$lost_line" ] || problem "writes to the root were lost: $lost_line"
}

# discard_root_image: undo make_root_image, however far it came.
discard_root_image() {
    run umount "$NEW_ROOT" 2>/dev/null
    run losetup -d "$ROOT/dev/loop$LB_ROOT_LOOP" 2>/dev/null
    run umount "$IMAGE_FOLDER" 2>/dev/null
}

# build_tmpfs_root: no image, no loop device, no free space set aside; every piece gives its memory back as soon as it is
# unpacked. The smallest machines get through this way.
build_tmpfs_root() {
    ROOT_MODE=tmpfs
    ROOT_DEVICE=tmpfs
    ROOT_ATTEMPTS=$((ROOT_ATTEMPTS + 1))
    step "root: attempt $ROOT_ATTEMPTS, tmpfs"
    [ -n "$LB_SHARED" ] || drop_early_modules # else the root gets its copy of them from here
    measure_payload
    tmpfs_kib=$LB_ROOT_DATA_KIB
    [ "$tmpfs_kib" -gt 0 ] || tmpfs_kib=$LB_ROOT_KIB
    # Every entry has an inode and a name in kernel memory, and a file its last page of 4 KiB half empty.
    tmpfs_kib=$((tmpfs_kib + 2 * LB_ROOT_ENTRIES))
    expect_memory_beside_router $((tmpfs_kib - PAYLOAD_KIB)) || return
    tmpfs_limits=size=$((LB_ROOT_KIB * 3 / 2 + 4 * LB_ROOT_ENTRIES))k,nr_inodes=$((2 * LB_ROOT_ENTRIES + 4096))
    run mount -t tmpfs -o "mode=0755,$tmpfs_limits" root "$NEW_ROOT" || problem "tmpfs for the root failed" || return
    unpack_payload "$NEW_ROOT" && verify_root 1 && drop_early_modules
}

# drop_payload: the pieces are memory too.
drop_payload() {
    for drop_piece in "$ROOT"/payload/*.cpio*; do : >"$drop_piece"; done
}
