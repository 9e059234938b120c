# shellcheck shell=sh
# OpenWrt's own layout: overlayfs:/overlay on /, the stick on /overlay, the root made in memory on /rom.

MERGED=$ROOT/merged
RAM_LAYER=$ROOT/ramlayer
FINAL_ROOT=$NEW_ROOT # what init hands over to

# lay_overlay: put the stick over the root. Whatever fails, the root in memory still boots, and the record says why.
lay_overlay() {
    case $STORAGE_STATE in
        persistent) lay_persistent || lay_read_only_instead || give_up_stick ;;
        read-only) lay_read_only || give_up_stick ;;
    esac
    [ "$STORAGE_STATE:$ROOT_MODE" != volatile:squashfs ] || make_squashfs_writable
    [ "$STICK_ASIDE:$FINAL_ROOT" != "yes:$NEW_ROOT" ] || show_stick
}

# show_stick: in failsafe, below a root that is no overlay.
show_stick() {
    run mkdir -p "$NEW_ROOT/overlay"
    run mount -o move "$STICK" "$NEW_ROOT/overlay" || warn "the stick could not be moved to /overlay"
}

lay_persistent() {
    if [ "$LB_OVERLAY_BY" = hook ]; then
        leave_to_hook
        return
    fi
    know_overlay || return
    prepare_lower
    for overlay_folder in upper work ${BY_MAC:+"$STAMP_FOLDER" "$STAMP_FOLDER/work" "$STAMP_FOLDER/work/$BY_MAC"}; do
        [ -d "$STICK/$overlay_folder" ] || run mkdir "$STICK/$overlay_folder" ||
            problem "/$overlay_folder cannot be made on the stick" || return
    done
    overlay_work=$STICK/$overlay_folder
    # The kernel empties and makes work/work anew; on a full stick the old one's block has to be free by then.
    if [ "$STICK_FULL" = yes ]; then run rm -rf "$overlay_work/work" && run sync; fi
    # A record that was copied up in an earlier boot would hide this one.
    for overlay_layer in "$STICK/upper" "$MACHINE"; do
        [ ! -e "$overlay_layer/$RECORD_PATH" ] || run rm -f "$overlay_layer/$RECORD_PATH"
    done
    if [ -n "$BY_MAC" ]; then
        mount_overlay "$STICK/upper:$LOWER" "$MACHINE" "$overlay_work"
    else
        mount_overlay "$LOWER" "$STICK/upper" "$overlay_work"
    fi
}

# lay_read_only_instead: what is on the stick is at least seen when there is no room for the overlay's own folders.
lay_read_only_instead() {
    know_overlay || return
    STORAGE_STATE=read-only
    STORAGE_REASON=$PROBLEM
    [ "$STICK_FULL" = no ] || STORAGE_REASON="$STORAGE_DEVICE is full ($PROBLEM)"
    lay_read_only
}

lay_read_only() {
    know_overlay || return
    prepare_lower
    overlay_lower=$LOWER
    overlay_record=''
    for overlay_layer in "$STICK/upper" ${BY_MAC:+"$MACHINE"}; do
        [ ! -d "$overlay_layer" ] || overlay_lower=$overlay_layer:$overlay_lower
        [ ! -e "$overlay_layer/$RECORD_PATH" ] || overlay_record=$overlay_layer
    done
    run mkdir -p "$RAM_LAYER" && run mount -t tmpfs -o mode=0755 ramlayer "$RAM_LAYER" &&
        run mkdir "$RAM_LAYER/upper" "$RAM_LAYER/work" || problem "no memory for the layer over the stick" || return
    # This boot's record lies in the lowest layer; a copy on the stick, which cannot be removed, must not hide it.
    if [ -n "$overlay_record" ]; then
        run mkdir -p "$RAM_LAYER/upper/${RECORD_PATH%/*}" && write_record "$RAM_LAYER/upper"
    fi
    mount_overlay "$overlay_lower" "$RAM_LAYER/upper" "$RAM_LAYER/work"
}

# know_overlay: OVERLAY_TYPE. Before it came into Linux (3.18) OpenWrt's kernels had an overlayfs without a work folder.
know_overlay() {
    for OVERLAY_TYPE in overlay overlayfs; do
        ! knows_filesystem "$OVERLAY_TYPE" || return 0
    done
    problem "the kernel of this image has no overlayfs"
}

# leave_to_hook: OpenWrt up to 12.09 lays the overlay in its preinit (lib/preinit/75_mount_extroot), after failsafe. It
# finds the stick on /overlay, and the record that becomes true when it succeeds; until then the record says volatile.
leave_to_hook() {
    run mkdir -p "$NEW_ROOT/rom" "$NEW_ROOT/overlay" "$NEW_ROOT/mnt" "$STICK/upper" "$STICK/work" ||
        problem "the folders for the overlay cannot be made" || return
    [ ! -e "$STICK/upper/$RECORD_PATH" ] || run rm -f "$STICK/upper/$RECORD_PATH"
    write_record "$NEW_ROOT"
    run mv "$NEW_ROOT/$RECORD_PATH" "$NEW_ROOT/$RECORD_PATH.ready"
    STORAGE_STATE=volatile
    STORAGE_REASON="the root did not get as far as its preinit hook 75_mount_extroot"
    write_record "$NEW_ROOT"
    STORAGE_STATE=persistent
    STORAGE_REASON=''
    run mount -o move "$STICK" "$NEW_ROOT/overlay" && return
    run rm -f "$NEW_ROOT/$RECORD_PATH.ready"
    problem "the stick could not be moved to /overlay"
}

# prepare_lower: the two mount points and the record go into the root in memory before it becomes the lower layer. (A
# squashfs has the mount points, and the record a layer of its own.)
prepare_lower() {
    run mkdir -p "$MERGED"
    if [ "$ROOT_MODE" = squashfs ]; then write_record "$RECORD_ROOT" && return; fi
    run mount -o remount,rw "$NEW_ROOT"
    run mkdir -p "$NEW_ROOT/rom" "$NEW_ROOT/overlay"
    write_record "$NEW_ROOT"
    run mount -o remount,ro "$NEW_ROOT"
}

# mount_overlay LOWER UPPER WORK: and move stick and root to where OpenWrt has them.
mount_overlay() {
    overlay_layers=lowerdir=$1,upperdir=$2
    [ "$OVERLAY_TYPE" = overlayfs ] || overlay_layers=$overlay_layers,workdir=$3
    run mount -t "$OVERLAY_TYPE" -o "noatime,$overlay_layers" overlayfs:/overlay "$MERGED" \
        2>"$STATE/overlay.log" || problem "the overlay cannot be mounted" || return
    mount_options "$MERGED" || problem "nothing is mounted at $MERGED" || return
    case ,$MOUNT_OPTIONS, in
        *,ro,*)
            run umount "$MERGED"
            problem "the overlay can only be read"
            return
            ;;
    esac
    run mount -o move "$STICK" "$MERGED/overlay" || rescue "the stick could not be moved below the overlay"
    show_lower || rescue "the root could not be moved below the overlay"
    FINAL_ROOT=$MERGED
}

# show_lower: the root as it was made, at /rom.
show_lower() {
    case $ROOT_MODE in
        squashfs) show_squashfs ;;
        *) run mount -o move "$NEW_ROOT" "$MERGED/rom" ;;
    esac
}

# give_up_stick: volatile after all.
give_up_stick() {
    STORAGE_STATE=volatile
    STORAGE_REASON=$PROBLEM
    run umount "$RAM_LAYER" 2>/dev/null
    run umount "$STICK"
    [ "$ROOT_MODE" = squashfs ] || run mount -o remount,rw "$NEW_ROOT"
    write_record "$RECORD_ROOT"
}
