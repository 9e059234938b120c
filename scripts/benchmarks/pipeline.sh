#!/bin/sh
# The way of the shell, to compare with: the tree as one archive, the archive compressed on both processors, and an ISO
# that boots as CD and as disk.
#   pipeline.sh TREE DISC ISO     TREE: what goes into the initramfs; DISC: kernel, loader and menu, as on the ISO
# XZ_OPTIONS: further options for xz.  BOOT_SECTOR: the code for booting as a disk; none when that is empty.
set -eu
disc=$(cd "$2" && pwd)
# shellcheck disable=SC2086 # a list of options
(cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) |
    xz -T2 --check=crc32 ${XZ_OPTIONS-} >"$disc/boot/initramfs"
exec xorriso -as mkisofs -quiet -R -J -V BENCH -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table ${BOOT_SECTOR:+-isohybrid-mbr "$BOOT_SECTOR"} -o "$3" "$disc"
