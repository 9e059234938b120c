# shellcheck shell=sh

# Whether root's password field holds a hash: not empty, not locked.
root_has_password() {
    while IFS=: read -r user hash _ || [ -n "$user" ]; do
        [ "$user" = root ] || continue
        case $hash in
        \$*\$*\$?*) return 0 ;;
        esac
        return 1
    done <"$ROOT/etc/shadow"
    return 1
}
