# shellcheck shell=sh
# lb.reset: back to the defaults, when a person says so at a console. What was set is renamed, never deleted: it lies in
# .livebuilder/old/N/ under the names it had at the top of the stick.
#
# A mark on the stick says that it was decided. While it is there every start goes on with what it began, so that a
# power cut leaves the settings as they were or the defaults, and nothing between.

RESET_MARK=reset   # in .livebuilder/: "N BY_MAC"
RESET_SECONDS=60
RESET_POLL=1

# reset_stick: after the stick was mounted, before anything else is done with what is on it.
reset_stick() {
    if [ "$RESET_WANTED" = yes ]; then decide_reset; fi
    [ "$STORAGE_STATE" = persistent ] && [ -e "$stamp/$RESET_MARK" ] || return 0
    read -r reset_number reset_by_mac <"$stamp/$RESET_MARK"
    if put_settings_aside; then
        warn "the settings were reset: those before are in /overlay/$STAMP_FOLDER/old/$reset_number"
    else
        warn "the settings could not all be reset ($PROBLEM): the next start tries again"
    fi
}

# decide_reset: the mark is written when yes was typed.
decide_reset() {
    if [ "$STORAGE_STATE" != persistent ]; then
        warn "lb.reset: nothing was reset: $STORAGE_REASON"
    elif ! ask_for_reset; then
        warn "lb.reset: nothing was reset, since yes was not typed"
    elif ! mark_reset; then
        warn "lb.reset: nothing was reset: $STORAGE_DEVICE takes no more files; in failsafe mode some can be deleted"
    fi
}

ask_for_reset() {
    tell "$PREFIX: lb.reset: start with the defaults, and put all settings on $STORAGE_DEVICE aside (nothing is deleted)?"
    tell "$PREFIX: type yes and hit [enter] within $RESET_SECONDS seconds; no, or nothing, leaves them as they are"
    listen yes no
    clock
    reset_until=$((NOW + RESET_SECONDS * 100))
    until heard || [ "$NOW" -ge "$reset_until" ]; do
        wake_keyboard
        run sleep "$RESET_POLL"
        clock
    done
    stop_listening
    [ "$HEARD" = yes ]
}

# mark_reset: a rename needs no room, but the folders and the mark do: they come first, so that what was begun can be ended.
mark_reset() {
    reset_number=1
    while [ -e "$stamp/old/$reset_number" ]; do reset_number=$((reset_number + 1)); done
    printf '%s\n' "$reset_number $BY_MAC" >"$STATE/reset"
    place_mark || { free_room && place_mark; }
}

place_mark() {
    run mkdir -p "$stamp/old/$reset_number/$STAMP_FOLDER" ${BY_MAC:+"$stamp/old/$reset_number/$MACHINES"} &&
        place_on_stick "$STATE/reset" "$RESET_MARK" && run sync
}

# put_settings_aside: what this start would lay over the root, and what /init noted about it. What is in its place
# already was put there before the power went.
put_settings_aside() {
    reset_old=$stamp/old/$reset_number
    for reset_name in upper work ${reset_by_mac:+"$MACHINES/$reset_by_mac"} \
        "$STAMP_FOLDER/aside" "$STAMP_FOLDER/stale" "$STAMP_FOLDER/files" "$STAMP_FOLDER/image"; do
        reset_to=$reset_old/$reset_name
        if [ ! -e "$STICK/$reset_name" ] || [ -e "$reset_to" ]; then continue; fi
        run mv "$STICK/$reset_name" "$reset_to" ||
            problem "/$reset_name could not be renamed" || return
    done
    [ "$reset_by_mac" != "$BY_MAC" ] || BY_MAC=''
    run sync && run rm "$stamp/$RESET_MARK" && run sync
}
