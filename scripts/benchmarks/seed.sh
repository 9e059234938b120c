#!/bin/sh
# The way of the seed, to compare with: the root IS the initramfs. An ext2 image in it, of a guessed size, gets a copy of
# it all; when the copy fails, or for the first time succeeds, everything is done again with an image that is a little
# larger, until it succeeded PASSES times. Written anew after the description; unlike the original it finds /proc
# mounted, its modules loaded and /dev/zero there, mounts the image on a folder of its own, and gives up at LIMIT.
#
# FIRST STEP LIMIT in KiB, PASSES: from /bench/seed.conf.

export PATH=/sbin:/bin:/usr/sbin:/usr/bin
/bin/busybox mount -t proc proc /proc
# shellcheck source=/dev/null
. /bench/seed.conf
modprobe -a loop crc32c_generic ext4
mknod /dev/loop0 b 7 0
mknod /dev/root b 7 0
mkdir /newroot
cd /

size=$FIRST
passes=0
attempts=0
# shellcheck disable=SC2153 # PASSES is in seed.conf
while [ "$passes" -lt "$PASSES" ]; do
    attempts=$((attempts + 1))
    if [ -e /image ]; then
        umount /newroot
        losetup -d /dev/root
        rm /image
    fi
    if [ "$size" -gt "$LIMIT" ]; then
        echo "bench: gave up at $LIMIT KiB after $attempts attempts"
        poweroff -f
    fi
    dd if=/dev/zero of=/image bs=1024 count="$size" 2>/dev/null
    losetup /dev/root /image
    mke2fs /dev/root >/dev/null 2>&1
    mount -t ext2 /dev/root /newroot 2>/dev/null
    made=$size
    size=$((size + STEP))
    find . -xdev -type d | (cd /newroot && xargs mkdir -p) 2>/dev/null || continue
    # shellcheck disable=SC2046 # the list of names is the archive's
    tar -cf - $(find . -xdev ! -type d ! -name image) 2>/dev/null | (cd /newroot && tar -xf -) 2>/dev/null || continue
    passes=$((passes + 1))
done
echo "bench: image of $made KiB after $attempts attempts"
exec switch_root -c /dev/console /newroot /bench/init
