# shellcheck shell=sh
# The root as a squashfs: the image that came in the initramfs, behind a loop device, read where it lies. Nobody can write
# into it, so there is an overlay over it in any case: the stick's, or one in memory. (root.mode in docs/profile.md)

SQUASHFS_IMAGE=$ROOT/payload/root.squashfs
RECORD_LAYER=$ROOT/recordlayer # small, in memory: this boot's record, between the squashfs and what is changed
COPY=$ROOT/copy
RECORD_ROOT=$NEW_ROOT # where the record is written to, and
LOWER=$NEW_ROOT       # what the overlay lies over; both are other with a squashfs

# build_squashfs_root: the image is mounted at NEW_ROOT.
build_squashfs_root() {
    ROOT_MODE=squashfs
    ROOT_DEVICE=/dev/loop$LB_ROOT_LOOP
    ROOT_ATTEMPTS=1
    ROOT_SIZE_BYTES=$((LB_ROOT_KIB * 1024))
    ROOT_USED_BYTES=$((LB_ROOT_USED_KIB * 1024))
    step "root: squashfs of $LB_ROOT_KIB KiB"
    expect_whole_squashfs && expect_memory_beside_router "$LB_ROOT_NEEDED_KIB" || return
    # shellcheck disable=SC2086 # a list of names
    load_modules $LB_MODULES_ROOT
    knows_filesystem squashfs || problem "the kernel has no squashfs" || return
    make_loop_nodes || return
    run losetup -r "$ROOT/dev/loop$LB_ROOT_LOOP" "$SQUASHFS_IMAGE" || problem "losetup /dev/loop$LB_ROOT_LOOP failed" ||
        return
    run mount -t squashfs -o ro,noatime "$root_node" "$NEW_ROOT" 2>"$STATE/squashfs.log" ||
        problem "the squashfs cannot be mounted" || return
    mount_options "$NEW_ROOT" || problem "nothing is mounted at $NEW_ROOT" || return
    make_record_layer || return
    drop_early_modules
}

# expect_whole_squashfs: Linux goes on with part of a file when memory ends while it unpacks the initramfs.
expect_whole_squashfs() {
    squashfs_bytes=$(stat -c %s "$SQUASHFS_IMAGE" 2>/dev/null)
    [ "${squashfs_bytes:-0}" -ne "$ROOT_SIZE_BYTES" ] || return 0
    read_memory
    MEMORY_NEEDED=$LB_ROOT_KIB
    problem "the squashfs has ${squashfs_bytes:-0} bytes instead of $ROOT_SIZE_BYTES: not enough memory to unpack it"
}

# make_record_layer: RECORD_ROOT and LOWER. Its folders hide those of the squashfs, so they look like them.
make_record_layer() {
    run mkdir -p "$RECORD_LAYER" && run mount -t tmpfs -o mode=0755,size=256k record "$RECORD_LAYER" ||
        problem "no memory for the record" || return
    layer_folder=''
    for layer_part in etc livebuilder; do
        layer_folder=$layer_folder/$layer_part
        run mkdir "$RECORD_LAYER$layer_folder" || problem "$layer_folder cannot be made for the record" || return
        # shellcheck disable=SC2046 # mode and owner
        set -- $(stat -c '%a %u:%g' "$NEW_ROOT$layer_folder" 2>/dev/null)
        [ $# -eq 2 ] && run chmod "$1" "$RECORD_LAYER$layer_folder" && run chown "$2" "$RECORD_LAYER$layer_folder"
    done
    RECORD_ROOT=$RECORD_LAYER
    LOWER=$RECORD_LAYER:$NEW_ROOT
}

# make_squashfs_writable: an overlay in memory, as OpenWrt has one where it finds no other; without an overlay the root
# itself in memory.
make_squashfs_writable() {
    lay_memory || copy_squashfs || warn "nothing can be written, not even in memory: $PROBLEM"
}

# lay_memory: what else is the stick at /overlay is a tmpfs.
lay_memory() {
    know_overlay || load_modules overlay
    know_overlay || return
    prepare_lower
    memory_layer=$STICK
    [ "$STICK_ASIDE" = no ] || memory_layer=$RAM_LAYER # at /overlay is the stick
    run mkdir -p "$memory_layer" && run mount -t tmpfs -o mode=0755,noatime tmpfs "$memory_layer" &&
        run mkdir "$memory_layer/upper" "$memory_layer/work" || problem "no memory for the layer over the root" || return
    mount_overlay "$LOWER" "$memory_layer/upper" "$memory_layer/work" && return
    run umount "$memory_layer"
    return 1
}

# show_squashfs: the root below the overlay, at /rom, as a file system of its own. OpenWrt's mount_root looks for the
# device under /rom, and where a squashfs is on it lays an overlay in memory over ours (fstools, libfstools/rootdisk.c);
# an overlay has no device.
show_squashfs() {
    run mount -t overlay -o "ro,lowerdir=$LOWER" overlay "$MERGED/rom" 2>"$STATE/rom.log" ||
        run mount -o move "$NEW_ROOT" "$MERGED/rom"
}

# copy_squashfs: all of it into a tmpfs, which takes the squashfs' place.
copy_squashfs() {
    ROOT_MODE=tmpfs
    ROOT_REASON=$PROBLEM
    step "root: tmpfs instead of a squashfs: $PROBLEM"
    if ! fill_copy; then
        ROOT_MODE=squashfs
        run umount "$COPY" 2>/dev/null
        problem "$ROOT_REASON; $PROBLEM"
        return
    fi
    ROOT_DEVICE=tmpfs
    ROOT_ATTEMPTS=2
    RECORD_ROOT=$NEW_ROOT
    run umount "$NEW_ROOT" && run losetup -d "$ROOT/dev/loop$LB_ROOT_LOOP" && run rm "$SQUASHFS_IMAGE"
    run mount -o move "$COPY" "$NEW_ROOT" || rescue "the copy of the root could not be moved to its place"
    read_room
    write_record "$NEW_ROOT"
}

fill_copy() {
    copy_kib=$((LB_ROOT_DATA_KIB + 2 * LB_ROOT_ENTRIES))
    expect_memory_beside_router "$copy_kib" || return
    run mkdir -p "$COPY" && run mount -t tmpfs -o "mode=0755,size=$((copy_kib * 2))k" root "$COPY" ||
        problem "tmpfs for the root failed" || return
    run cp -a "$NEW_ROOT/." "$COPY" || problem "the root could not be copied (cp exit $?)"
}
