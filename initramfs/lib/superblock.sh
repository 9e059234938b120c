# shellcheck shell=sh
# What is on a block device, read by hand: busybox has no blkid, and its findfs takes 0.4 s a call on an old machine.
#
# Offsets in bytes (kernel: Documentation/filesystems/ext4/super.rst, include/linux/f2fs_fs.h, btrfs_tree.h; FAT: the
# Microsoft specification, 3.1 to 3.3):
#   ext    superblock at 1024: features 0x5c, magic ef53 at 0x38, UUID 0x68, label 0x78 (16 bytes)
#   f2fs   superblock at 1024: magic f2f52010 at 0, UUID 0x6c, label 0x7c (512 units of UTF-16)
#   btrfs  superblock at 65536: UUID 0x20, magic _BHRfS_M at 0x40, label 0x12b (256 bytes)
#   vfat   boot sector: FAT32 at 82, label 71; FAT12 and FAT16 at 54, label 43; the label again in the root folder

# read_words DEVICE OFFSET LENGTH: WORDS = four bytes each, in hex.
read_words() {
    WORDS=$(hexdump -v -s "$2" -n "$3" -e '4/1 "%02x" " "' "$1" 2>/dev/null)
    [ -n "$WORDS" ]
}

# read_superblock DEVICE: FS_TYPE (empty: nothing known; "table": a partition table), FS_UUID, FS_LABEL (UTF-8 in hex).
# False when the device cannot be read.
read_superblock() {
    FS_TYPE=''
    FS_UUID=''
    FS_LABEL=''
    read_words "$1" 0 2304 || return
    # shellcheck disable=SC2086 # words
    read_first_sectors $WORDS
    [ -z "$FS_TYPE" ] || return 0
    # shellcheck disable=SC2086
    if read_words "$1" 65536 560; then read_btrfs $WORDS; fi
    [ -z "$FS_TYPE" ] || return 0
    # shellcheck disable=SC2086
    if read_words "$1" 32768 80; then read_iso9660 $WORDS; fi
    [ -z "$FS_TYPE" ] || return 0
    FS_TYPE=$boot_sector_type
    [ "$FS_TYPE" != vfat ] || read_vfat "$1"
}

# read_first_sectors WORD…: whatever shows in the first 2304 bytes. A signature at 1024 counts before a boot sector:
# mkfs for ext and f2fs leaves an old boot sector standing, the one for FAT clears what is behind its own.
read_first_sectors() {
    boot_sector_type=''
    [ $# -ge 576 ] || return 0 # too small for any file system
    read_boot_sector "$@"
    shift 256
    case ${15}:$1 in
        53ef*) read_ext "$@" ;;
        *:1020f5f2) read_f2fs "$@" ;;
    esac
}

# dashed_uuid WORD WORD WORD WORD: FS_UUID
dashed_uuid() { FS_UUID=$1-${2%????}-${2#????}-${3%????}-${3#????}$4; }

# little_endian WORD: NUMBER
little_endian() {
    hex_rest=$1
    NUMBER=0
    little_endian_scale=1
    while [ -n "$hex_rest" ]; do
        take_byte
        NUMBER=$((NUMBER + little_endian_scale * hex_value))
        little_endian_scale=$((little_endian_scale * 256))
    done
}

# read_ext WORD…: which of the three it is follows from the features, as the kernel and blkid see it.
read_ext() {
    little_endian "${24}"
    ext_compatible=$NUMBER
    little_endian "${25}"
    ext_incompatible=$NUMBER
    little_endian "${26}"
    ext_read_only_compatible=$NUMBER
    [ $((ext_incompatible & 0x8)) -eq 0 ] || return 0 # a journal on a device of its own
    FS_TYPE=ext2
    [ $((ext_compatible & 0x4)) -eq 0 ] || FS_TYPE=ext3 # has_journal
    # More than filetype, needs_recovery and meta_bg, or more than sparse_super, large_file and btree_dir: ext4.
    [ $((ext_incompatible & ~0x16)) -eq 0 ] && [ $((ext_read_only_compatible & ~0x7)) -eq 0 ] || FS_TYPE=ext4
    dashed_uuid "${27}" "${28}" "${29}" "${30}"
    hex_until_nul "${31}${32}${33}${34}"
    FS_LABEL=$HEX
}

read_f2fs() {
    FS_TYPE=f2fs
    dashed_uuid "${28}" "${29}" "${30}" "${31}"
    shift 31
    f2fs_label=''
    for f2fs_word; do
        [ "$f2fs_word" != 00000000 ] || break
        f2fs_label=$f2fs_label$f2fs_word
    done
    hex_from_utf16 "$f2fs_label"
    FS_LABEL=$HEX
}

read_btrfs() {
    [ $# -ge 140 ] && [ "${17}${18}" = 5f42485266535f4d ] || return 0
    FS_TYPE=btrfs
    dashed_uuid "$9" "${10}" "${11}" "${12}"
    shift 74
    btrfs_label=${1#??????}
    shift
    for btrfs_word; do btrfs_label=$btrfs_label$btrfs_word; done
    hex_until_nul "$btrfs_label"
    FS_LABEL=$HEX
}

# read_iso9660 WORD…: a disc image written onto a stick; the volume descriptor's label is 32 bytes at 40.
read_iso9660() {
    case $1$2 in
        ??4344303031*) ;; # CD001
        *) return 0 ;;
    esac
    FS_TYPE=iso9660
    hex_without_blanks "${11}${12}${13}${14}${15}${16}${17}${18}"
    FS_LABEL=$HEX
}

# read_boot_sector WORD…: boot_sector_type, and for FAT what read_vfat needs.
read_boot_sector() {
    case ${1}${2}${3} in
        ??????4e54465320202020??) boot_sector_type=ntfs ;;
        ??????4558464154202020??) boot_sector_type=exfat ;;
        58465342*) boot_sector_type=xfs ;;
        68737173*) boot_sector_type=squashfs ;;
        4c554b53babe*) boot_sector_type=crypto_LUKS ;;
    esac
    [ -z "$boot_sector_type" ] || return 0
    case ${128} in
        *55aa) ;;
        *) return 0 ;;
    esac
    fat_bytes_per_sector=${3#??????}${4%??????}
    fat_sectors_per_cluster=${4%????}
    fat_sectors_per_cluster=${fat_sectors_per_cluster#??}
    fat_reserved=${4#????}
    fat_copies=${5%??????}
    fat_root_entries=${5#??}
    fat_root_entries=${fat_root_entries%??}
    fat_size=${6#????}
    case ${21#????}${22}-${14#????}${15} in
        4641543332??*) # "FAT32" at 82
            fat_size=${10}
            fat_root_cluster=${12}
            fat_label=${18#??????}${19}${20}${21%????}
            ;;
        *-464154313[26]??*) # "FAT12" or "FAT16" at 54
            fat_root_cluster=''
            fat_label=${11#??????}${12}${13}${14%????}
            ;;
        *)
            is_partition_table "$@" && boot_sector_type=table
            return 0
            ;;
    esac
    boot_sector_type=vfat
}

# is_partition_table WORD…: does the kernel take it for one? Four states of 00 or 80 at 446, 462 …, a type at 450, 466 ….
is_partition_table() {
    shift 111
    for table_state in "${1#????}" "${5#????}" "${9#????}" "${13#????}"; do
        case $table_state in
            00?? | 80??) ;;
            *) return 1 ;;
        esac
    done
    case ${2#????}${6#????}${10#????}${14#????} in
        00??00??00??00??) return 1 ;;
    esac
}

# read_vfat DEVICE: the label is a file of its own kind in the root folder (Windows writes only that one) or, failing
# that, what mkfs left in the boot sector.
read_vfat() {
    little_endian "$fat_bytes_per_sector"
    vfat_sector=$NUMBER
    little_endian "$fat_reserved"
    vfat_first=$NUMBER
    little_endian "$fat_copies"
    vfat_copies=$NUMBER
    little_endian "$fat_size"
    vfat_first=$((vfat_first + vfat_copies * NUMBER))
    if [ -n "$fat_root_cluster" ]; then
        little_endian "$fat_sectors_per_cluster"
        vfat_cluster=$NUMBER
        little_endian "$fat_root_cluster"
        vfat_first=$((vfat_first + (NUMBER - 2) * vfat_cluster))
    fi
    vfat_label=$fat_label
    # shellcheck disable=SC2086
    if read_words "$1" $((vfat_first * vfat_sector)) 2048; then find_volume_label $WORDS; fi
    [ "$vfat_label" = 4e4f204e414d4520202020 ] && vfat_label='' # "NO NAME    "
    hex_without_blanks "$vfat_label"
    FS_LABEL=$HEX
}

# find_volume_label WORD…: folder entries of 32 bytes: name 11, attributes at 11 (08 = label, 0f = a long name's part).
find_volume_label() {
    while [ $# -ge 8 ]; do
        case $1-$3 in
            00*) return 0 ;;
            e5*) ;;
            *-??????08 | *-??????28)
                vfat_label=$1$2${3%??}
                return 0
                ;;
        esac
        shift 8
    done
}
