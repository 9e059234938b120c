# shellcheck shell=sh
# The settings, /etc without /etc/livebuilder, packed and put back. They are put back file by file, and only what
# differs is written: / is an overlay, and what is left alone needs no room on the stick.

# pack FILE PATH...: paths below /etc as one archive that is there whole or not at all. It is for root only: passwords.
pack() (
    umask 077
    _file=$1
    shift
    cd "$ROOT/etc" && tar -czf "$_file.new" "$@" && run sync && mv "$_file.new" "$_file" && run sync
)

# pack_settings FILE
pack_settings() (
    cd "$ROOT/etc" || exit
    _file=$1
    set --
    for _path in ./* ./.[!.]*; do
        [ "$_path" = ./livebuilder ] || ! present "$_path" || set -- "$@" "$_path"
    done
    pack "$_file" "$@"
)

# unpack FILE: into memory, as the folder UNPACKED.
unpack() {
    UNPACKED=$ROOT/tmp/run/router-settings
    rm -rf "$UNPACKED"
    (umask 077 && mkdir -p "$UNPACKED") && tar -xzf "$1" -C "$UNPACKED" --numeric-owner 2>/dev/null
}

present() { [ -e "$1" ] || [ -L "$1" ]; }

# put_back FOLDER TARGET: make the folder TARGET what FOLDER is. A subshell, so that every folder has variables of its own.
put_back() (
    _folder=$1
    _target=$2
    _status=0
    for _path in "$_target"/* "$_target"/.[!.]*; do
        [ "$_path" != "$ROOT/etc/livebuilder" ] || continue
        present "$_folder/${_path##*/}" || rm -rf "$_path" || _status=1
    done
    for _path in "$_folder"/* "$_folder"/.[!.]*; do
        ! present "$_path" || put_back_one "$_path" "$_target/${_path##*/}" || _status=1
    done
    return "$_status"
)

# put_back_one SOURCE TARGET
put_back_one() {
    if [ -d "$1" ] && [ ! -L "$1" ]; then
        if [ -L "$2" ] || [ ! -d "$2" ]; then rm -rf "$2" && mkdir "$2" || return; fi
        put_back "$1" "$2" || return
    elif ! same_content "$1" "$2"; then
        if [ -L "$2" ] || [ -d "$2" ]; then rm -rf "$2" || return; fi
        cp -a "$1" "$2.put-back" && mv "$2.put-back" "$2"
        return
    fi
    [ -L "$1" ] || same_access "$1" "$2" || { chown "$(stat -c %u:%g "$1")" "$2" && chmod "$(stat -c %a "$1")" "$2"; }
}

same_content() {
    if [ -L "$1" ] || [ -L "$2" ]; then
        [ -L "$1" ] && [ -L "$2" ] && [ "$(readlink "$1")" = "$(readlink "$2")" ]
    else
        [ -f "$2" ] && cmp -s "$1" "$2"
    fi
}

same_access() { [ "$(stat -c '%a %u %g' "$1")" = "$(stat -c '%a %u %g' "$2")" ]; }
