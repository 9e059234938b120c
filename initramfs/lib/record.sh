# shellcheck shell=sh
# The boot record, a JSON file in the root made in memory, and the one line on every console.

RECORD_PATH=etc/livebuilder/boot.json

# write_record ROOT
write_record() {
    run mkdir -p "$1/${RECORD_PATH%/*}"
    render_record >"$1/$RECORD_PATH" || step "the boot record could not be written"
}

# render_record: the JSON on stdout.
render_record() {
    json_string "$LB_VERSION" && printf '{"version":1,"livebuilder":%s' "$JSON"
    json_string "$LB_NAME" && printf ',"name":%s' "$JSON"
    json_string "$LB_KERNEL" && printf ',"kernel":%s,\n' "$JSON"
    render_failsafe=false
    [ "$FAILSAFE" = no ] || render_failsafe=true
    printf '"failsafe":%s,\n' "$render_failsafe"
    render_root
    printf '"memory":{"total_kib":%s,"available_kib":%s,"needed_kib":%s},\n' \
        "$MEMORY_TOTAL" "$MEMORY_AVAILABLE" "$MEMORY_NEEDED"
    render_storage
    render_upgrade
    printf '"parameters":{"unknown":['
    render_lines "$UNKNOWN_PARAMETERS"
    printf ']},\n"warnings":['
    render_lines "$WARNINGS"
    printf ']}\n'
}

render_root() {
    json_string "$ROOT_DEVICE" && printf '"root":{"mode":"%s","device":%s' "$ROOT_MODE" "$JSON"
    render_uuid=''
    [ "$ROOT_MODE" != ext2 ] || render_uuid=$LB_ROOT_UUID
    json_or_null "$render_uuid" && printf ',"uuid":%s' "$JSON"
    seconds "$ROOT_TOOK" 2
    json_or_null "$ROOT_REASON"
    printf ',"size_bytes":%s,"used_bytes":%s,"attempts":%s,"seconds":%s,"reason":%s},\n' \
        "$ROOT_SIZE_BYTES" "$ROOT_USED_BYTES" "$ROOT_ATTEMPTS" "$SECONDS_TEXT" "$JSON"
}

render_storage() {
    json_or_null "$STORAGE_REASON" && printf '"storage":{"state":"%s","reason":%s' "$STORAGE_STATE" "$JSON"
    json_or_null "$STORAGE_DEVICE" && printf ',"device":%s' "$JSON"
    if [ -n "$STORAGE_DEVICE" ]; then json_from_hex "$STORAGE_LABEL"; fi # else JSON is null already
    printf ',"label":%s' "$JSON"
    json_or_null "$STORAGE_UUID" && printf ',"uuid":%s' "$JSON"
    json_or_null "$STORAGE_FSTYPE" && printf ',"fstype":%s' "$JSON"
    json_or_null "$BY_MAC" && printf ',"by_mac":%s' "$JSON"
    seconds "$SEARCH_WAITED" 2
    printf ',"fsck":%s,"waited_seconds":%s,\n"candidates":[' "${STORAGE_FSCK:-null}" "$SECONDS_TEXT"
    render_comma=''
    render_rest=$CANDIDATES
    while next_line "$render_rest"; do
        render_rest=$REST
        # shellcheck disable=SC2086 # its fields
        set -- $LINE
        [ "/dev/$1" != "$STORAGE_DEVICE" ] || continue
        render_candidate "$@"
        render_comma=,
    done
    printf ']},\n'
}

# render_candidate NAME FSTYPE UUID LABEL VERDICT
render_candidate() {
    json_string "/dev/$1" && printf '%s{"device":%s' "$render_comma" "$JSON"
    JSON=null
    if [ "$4" != - ]; then json_from_hex "$4"; fi
    printf ',"label":%s' "$JSON"
    json_or_null "${2#-}" && printf ',"fstype":%s' "$JSON"
    json_or_null "${3#-}" && printf ',"uuid":%s' "$JSON"
    cure "$@"
    if [ -z "$CURE" ]; then printf ',"cure":null}' && return; fi
    json_string "$CURE" && printf ',"cure":{"command":%s,"erases":%s,"here":%s}}' "$JSON" "$CURE_ERASES" "$CURE_HERE"
}

# render_lines LINES: as JSON strings with commas between.
render_lines() {
    lines_comma=''
    lines_rest=$1
    while next_line "$lines_rest"; do
        lines_rest=$REST
        json_string "$LINE" && printf '%s%s' "$lines_comma" "$JSON"
        lines_comma=,
    done
}

# announce: the summary, and when settings are not kept everything a person needs to change that.
announce() {
    clock
    seconds "$NOW" 1
    summary="root=$ROOT_MODE storage=$STORAGE_STATE"
    [ "$STORAGE_STATE" = persistent ] || summary_reason " reason"
    if [ "$STORAGE_STATE" != volatile ]; then
        characters_from_hex "$STORAGE_LABEL" plain
        case $TEXT in
            *\ *) TEXT="\"$TEXT\"" ;;
        esac
        summary="$summary device=$STORAGE_DEVICE label=$TEXT${BY_MAC:+ by-mac=$BY_MAC}"
    fi
    say "$summary seconds=$SECONDS_TEXT"
    [ "$STORAGE_STATE" != volatile ] || [ "$STORAGE_WANTED" = no ] || [ "$STICK_ASIDE" = yes ] || list_candidates
}

summary_reason() {
    hex_of "$STORAGE_REASON"
    characters_from_hex "$HEX" plain
    summary="$summary reason=\"$TEXT\""
}

# list_candidates: what was seen instead, each with the command that would cure it.
list_candidates() {
    list_rest=$CANDIDATES
    while next_line "$list_rest"; do
        list_rest=$REST
        # shellcheck disable=SC2086 # its fields
        set -- $LINE
        [ "/dev/$1" != "$STORAGE_DEVICE" ] || continue
        characters_from_hex "${4#-}" plain
        cure "$@"
        cure_in_words
        list_type=${2#-}
        tell "$PREFIX:   /dev/$1 ${list_type:-unformatted} label=\"$TEXT\"$CURE_WORDS"
    done
}
