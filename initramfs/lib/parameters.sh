# shellcheck shell=sh
# What this boot is told to do: image.conf, written by the builder, and the lb.* words of the kernel's command line
# (docs/boot-parameters.md).

SETTLE_LIMIT=600 # seconds; a longer wait is a typing error

UNKNOWN_PARAMETERS='' # one per line, for the record
STORAGE_WANTED=yes
STALE_WANTED=keep
RESCUE_WANTED=no
RESET_WANTED=no
FAILSAFE=no

KNOWN_PARAMETERS='lb.label=NAME lb.storage=off lb.settle=SECONDS lb.stale=hide lb.failsafe lb.reset lb.rescue lb.debug'

# read_image_configuration: the LB_ settings; every one has a value afterwards.
read_image_configuration() {
    read_image_path=$ROOT/etc/livebuilder/image.conf
    [ -r "$read_image_path" ] || rescue "$read_image_path is missing: this initramfs was not made by livebuilder"
    # shellcheck source=/dev/null
    . "$read_image_path"
    : "${LB_VERSION:=unknown}" "${LB_NAME:=livebuilder}" "${LB_ROOT_MODE:=ext2}" "${LB_ROOT_KIB:=16384}"
    : "${LB_ROOT_BLOCK_SIZE:=1024}" "${LB_ROOT_BYTES_PER_INODE:=8192}" "${LB_ROOT_ENTRIES:=0}" "${LB_ROOT_UUID:=}"
    : "${LB_ROOT_DATA_KIB:=0}" "${LB_ROOT_LOOP:=7}" "${LB_ROOT_SOURCE:=/dev/root}" "${LB_ROOT_INIT:=/etc/preinit}"
    : "${LB_OVERLAY_BY:=init}" "${LB_BANNER:=no}" "${LB_FSTAB:=no}" "${LB_BUILD:=}" "${LB_RELEASE:=}"
    : "${LB_STORAGE_LABEL:=rootfs_data}" "${LB_STORAGE_SETTLE:=15}"
    : "${LB_ROOT_USED_KIB:=0}" "${LB_ROOT_NEEDED_KIB:=0}" # of a squashfs
    : "${LB_MODULES_ROOT:=}" "${LB_MODULES_STORAGE:=}" "${LB_MODULES_FILESYSTEMS:=overlay}" "${LB_SHARED:=}"
}

# read_parameters: the lb.* words. A word that is not understood changes nothing, and is reported.
read_parameters() {
    parameters_line=''
    { IFS= read -r parameters_line <"$ROOT/proc/cmdline"; } 2>/dev/null
    parameters_word=''
    set -f
    for parameters_part in $parameters_line; do
        parameters_word="${parameters_word:+$parameters_word }$parameters_part"
        case $parameters_word in
            *\"*\"*) ;;
            *\"*) continue ;; # as in lb.label="my stick"
        esac
        read_parameter "$parameters_word"
        parameters_word=''
    done
    [ -z "$parameters_word" ] || read_parameter "$parameters_word"
    set +f
    [ "${DEBUG_WANTED:-no}" = no ] || show_everything
}

# show_everything: the commands of this script and the kernel's messages, "quiet" or not.
show_everything() {
    { echo 8 >"$ROOT/proc/sys/kernel/printk"; } 2>/dev/null
    PS4='+ '
    set -x
}

# read_parameter WORD
read_parameter() {
    while [ "${1#*\"}" != "$1" ]; do set -- "${1%%\"*}${1#*\"}"; done
    case $1 in
        lb.label=?*) LB_STORAGE_LABEL=${1#*=} ;;
        lb.storage=off) STORAGE_WANTED=no ;;
        lb.settle=*) read_settle "$1" ;;
        lb.stale=keep | lb.stale=hide) STALE_WANTED=${1#*=} ;;
        lb.failsafe) FAILSAFE=yes ;;
        lb.reset) RESET_WANTED=yes ;;
        lb.rescue) RESCUE_WANTED=yes ;;
        lb.debug) DEBUG_WANTED=yes ;;
        lb.*) report_parameter "$1" ;;
    esac
}

# read_settle WORD: whole seconds, 0 to SETTLE_LIMIT.
read_settle() {
    settle_value=${1#*=}
    case $settle_value in
        '' | *[!0-9]* | ?????*) report_parameter "$1" && return ;;
    esac
    while [ "${#settle_value}" -gt 1 ] && [ "${settle_value#0}" != "$settle_value" ]; do settle_value=${settle_value#0}; done
    if [ "$settle_value" -gt "$SETTLE_LIMIT" ]; then report_parameter "$1" && return; fi
    LB_STORAGE_SETTLE=$settle_value
}

# report_parameter WORD: seen, not understood.
report_parameter() {
    hex_of "$1"
    characters_from_hex "$HEX" plain
    say "unknown boot parameter $TEXT (known: $KNOWN_PARAMETERS)"
    UNKNOWN_PARAMETERS="$UNKNOWN_PARAMETERS$1
"
}
