# shellcheck shell=sh
# A new disc with an old stick. The stick remembers the image it was used with; what is on it in front of a file that
# the new image brings in another version is told, and with lb.stale=hide put aside. Settings in /etc are nobody's
# business but their owner's.
#
# On the stick, beside upper/ and work/:
#   .livebuilder/image   "BUILD NAME VERSION" of the image it was used with last
#   .livebuilder/files   that image's files: HASH PATH, as in the image's own etc/livebuilder/files
#   .livebuilder/stale   HASH PATH of what is stale, with the hash of the file that it was made from; "-": not known
#   .livebuilder/aside/  what lb.stale=hide took out of upper/
#   .livebuilder/room    nothing, but the room that lb.reset needs when the stick is full

IMAGE_FILES=etc/livebuilder/files
STAMP_FOLDER=.livebuilder
stamp=$STICK/$STAMP_FOLDER
STALE_SHOWN=50 # in the record

IMAGE_BEFORE=''  # "BUILD NAME VERSION"
STALE_FILES=''   # one path a line
STALE_COUNT=0
STALE_HIDDEN=0

# check_stick_image: after the stick was mounted, before it is laid over the root.
check_stick_image() {
    [ "$STORAGE_STATE" = persistent ] && [ -n "$LB_BUILD" ] || return 0
    { read -r IMAGE_BEFORE <"$stamp/image"; } 2>/dev/null
    if [ "${IMAGE_BEFORE%% *}" != "$LB_BUILD" ]; then
        step "upgrade: the stick was used with ${IMAGE_BEFORE:-an image that left no mark}"
        if ! compare_images || ! stamp_stick; then step "upgrade: the stick could not be marked"; fi
    fi
    read_stale
    [ "$STALE_WANTED" = hide ] || take_back
    tell_stale
}

# compare_images: STATE/stale = what the stick has in front of files of this image that it was not made from.
compare_images() {
    [ -d "$stamp" ] || run mkdir "$stamp" || return
    : >"$STATE/stale"
    [ -d "$STICK/upper" ] || return 0
    for compare_list in "$stamp/files" "$stamp/stale"; do
        [ -e "$compare_list" ] || run touch "$compare_list" || return
    done
    # What is stale already knows better than the list of the last image what it was made from.
    awk -v image="$NEW_ROOT/$IMAGE_FILES" '
        { path = substr($0, length($1) + 2) }
        FILENAME != image { base[path] = $1; next }
        base[path] != $1 { print (path in base && base[path] != "" ? base[path] : "-"), path }
        ' "$stamp/files" "$stamp/stale" "$NEW_ROOT/$IMAGE_FILES" >"$STATE/changed"
    while read -r compare_base compare_path; do
        is_on_stick "$compare_path" || continue
        [ "$compare_base" != - ] || ! is_same "$compare_path" || continue
        printf '%s %s\n' "$compare_base" "$compare_path" >>"$STATE/stale"
    done <"$STATE/changed"
}

is_on_stick() { [ -f "$STICK/upper/$1" ] || [ -f "$stamp/aside/$1" ]; }

# is_same PATH: nobody knows what it was made from; does it differ from what the image has?
is_same() { [ -f "$STICK/upper/$1" ] && cmp -s "$STICK/upper/$1" "$NEW_ROOT/$1"; }

# stamp_stick: what is stale first and the mark last, so that a power cut leaves a comparison that is made again.
stamp_stick() {
    place_on_stick "$STATE/stale" stale && place_on_stick "$NEW_ROOT/$IMAGE_FILES" files &&
        printf '%s\n' "$LB_BUILD $LB_NAME $LB_RELEASE" >"$STATE/image" && place_on_stick "$STATE/image" image &&
        keep_room
}

keep_room() { [ -e "$stamp/room" ] || printf '%131072s' '' >"$stamp/room" || run rm -f "$stamp/room"; }

free_room() { [ -e "$stamp/room" ] && run rm "$stamp/room" && run sync; }

place_on_stick() {
    run cp "$1" "$stamp/$2.new" && run sync && run mv -f "$stamp/$2.new" "$stamp/$2" && return
    run rm -f "$stamp/$2.new" # what there was of it took the last room of a full stick
    return 1
}

# read_stale: STALE_FILES, of what is still there; with lb.stale=hide each of them goes aside.
read_stale() {
    [ -s "$stamp/stale" ] || return 0
    while read -r stale_base stale_path; do
        is_on_stick "$stale_path" || continue
        STALE_COUNT=$((STALE_COUNT + 1))
        [ "$STALE_COUNT" -gt "$STALE_SHOWN" ] || STALE_FILES="$STALE_FILES/$stale_path
"
        [ "$STALE_WANTED" != hide ] || put_aside "$stale_path"
    done <"$stamp/stale"
    step "upgrade: $STALE_COUNT stale, the first made from ${stale_base:--}"
}

# put_aside PATH: renamed, never copied; one that is there was put aside before, and upper/ has what was made since.
put_aside() {
    STALE_HIDDEN=$((STALE_HIDDEN + 1))
    [ ! -e "$stamp/aside/$1" ] || return 0
    aside_folder=$stamp/aside/$1
    run mkdir -p "${aside_folder%/*}" && run mv "$STICK/upper/$1" "$stamp/aside/$1" && return
    STALE_HIDDEN=$((STALE_HIDDEN - 1))
    warn "/$1 of the stick could not be put aside"
}

# take_back: without lb.stale=hide all is as it was, but for a file that was made anew meanwhile.
take_back() {
    [ -d "$stamp/aside" ] || return 0
    (cd "$stamp/aside" && find . -type f) >"$STATE/aside"
    while IFS= read -r back_path; do
        back_path=${back_path#./}
        back_folder=$STICK/upper/$back_path
        if [ -e "$STICK/upper/$back_path" ]; then
            warn "/$back_path was put aside and made anew since: the old one stays in /overlay/$STAMP_FOLDER/aside"
        else
            run mkdir -p "${back_folder%/*}" && run mv "$stamp/aside/$back_path" "$STICK/upper/$back_path"
        fi
    done <"$STATE/aside"
    find "$stamp/aside" -depth -type d -exec rmdir {} + 2>/dev/null
    return 0
}

tell_stale() {
    [ "$STALE_COUNT" -gt 0 ] || return 0
    if [ "$STALE_WANTED" = hide ]; then
        warn "$STALE_HIDDEN files of the stick, older than this image's, are hidden (lb.stale=hide)"
    else
        warn "$STALE_COUNT files on the stick hide newer ones of this image: lb.stale=hide starts without them"
    fi
}

# render_upgrade: for the record.
render_upgrade() {
    json_or_null "$LB_BUILD" && printf '"image":{"build":%s' "$JSON"
    json_or_null "$IMAGE_BEFORE" && printf ',"before":%s' "$JSON"
    printf ',"stale":{"count":%s,"hidden":%s,"files":[' "$STALE_COUNT" "$STALE_HIDDEN"
    render_lines "$STALE_FILES"
    printf ']}},\n'
}
