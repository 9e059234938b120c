# shellcheck shell=sh
# What an OpenWrt root says of itself has to be true: its login, and the mount that its own tools would make.

NOTICE_BANNER=etc/banner       # shown by /etc/profile
NOTICE_FSTAB=etc/config/fstab  # read by `block extroot`, and shown by LuCI

# correct_root: in a boot that keeps no settings. Both files are in memory, whatever the state is.
correct_root() {
    [ "$STORAGE_STATE" != persistent ] || return 0
    [ "$LB_BANNER" = no ] || add_to_banner
    # OpenWrt's own extroot must not take a stick that /init left alone.
    [ "$LB_FSTAB" = no ] || [ "$STORAGE_STATE" != volatile ] || [ ! -f "$FINAL_ROOT/$NOTICE_FSTAB" ] ||
        run sed -i "s/option enabled '1'/option enabled '0'/" "$FINAL_ROOT/$NOTICE_FSTAB"
}

add_to_banner() {
    [ -f "$FINAL_ROOT/$NOTICE_BANNER" ] || return 0
    hex_of "$STORAGE_REASON"
    characters_from_hex "$HEX" plain
    notice_what="CHANGES ARE NOT KEPT: this system runs from memory only"
    [ "$STORAGE_STATE" = volatile ] || notice_what="CHANGES ARE NOT KEPT: the stick is read-only"
    [ "$FAILSAFE" = no ] || notice_what="FAILSAFE MODE: CHANGES ARE NOT KEPT"
    printf ' *** %s ***\n     Why: %s\n     All about it: /%s\n%s\n' "$notice_what" "$TEXT" "$RECORD_PATH" \
        " -----------------------------------------------------" >>"$FINAL_ROOT/$NOTICE_BANNER"
}
