# shellcheck shell=sh
# /proc, /sys and /dev, with devtmpfs or without it (OpenWrt's own kernels have none).

BUSYBOX=$ROOT/bin/busybox # before /proc stands busybox cannot find itself, so the first commands name it

# mount_kernel_filesystems: proc, sys, dev; STATE is a folder for notes of this boot.
mount_kernel_filesystems() {
    STATE=$ROOT/run
    run "$BUSYBOX" mkdir -p "$ROOT/proc" "$ROOT/sys" "$ROOT/dev" "$STATE" "$ROOT/sbin"
    run "$BUSYBOX" mount -t proc proc "$ROOT/proc" || rescue "/proc cannot be mounted"
    run mount -t sysfs sysfs "$ROOT/sys" || rescue "/sys cannot be mounted"
    if ! run mount -t devtmpfs -o mode=0755 devtmpfs "$ROOT/dev" 2>/dev/null; then
        make_device_folder || rescue "/dev cannot be made"
    fi
    # The kernel asks for the modules it needs (crc32c for ext4, say) by running /sbin/modprobe.
    [ -e "$ROOT/sbin/modprobe" ] || run ln -s ../bin/busybox "$ROOT/sbin/modprobe"
}

# make_device_folder: a /dev of our own, filled from /sys.
make_device_folder() {
    run mount -t tmpfs -o mode=0755,size=512k dev "$ROOT/dev" || return
    run mknod -m 600 "$ROOT/dev/console" c 5 1 &&
        run mknod -m 666 "$ROOT/dev/null" c 1 3 &&
        run mdev -s &&
        step "the kernel has no devtmpfs: /dev made from /sys"
}

# block_node NAME: the node of a block device, made from /sys when it is missing; DEVICE_NODE is its path.
block_node() {
    DEVICE_NODE=$ROOT/dev/$1
    [ -e "$DEVICE_NODE" ] && return
    block_numbers=''
    { read -r block_numbers <"$ROOT/sys/class/block/$1/dev"; } 2>/dev/null
    [ -n "$block_numbers" ] && run mknod -m 600 "$DEVICE_NODE" b "${block_numbers%:*}" "${block_numbers#*:}"
}

# knows_filesystem NAME: whether the kernel can mount it.
knows_filesystem() {
    while read -r known_first known_second; do
        [ "${known_second:-$known_first}" = "$1" ] && return 0
    done <"$ROOT/proc/filesystems"
    return 1
}

# mount_options TARGET: MOUNT_OPTIONS of what is mounted there (the last one counts); false when nothing is.
mount_options() {
    MOUNT_OPTIONS=''
    while read -r _ mount_target _ mount_words _; do
        [ "$mount_target" = "$1" ] && MOUNT_OPTIONS=$mount_words
    done <"$ROOT/proc/mounts"
    [ -n "$MOUNT_OPTIONS" ]
}
