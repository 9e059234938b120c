# shellcheck shell=sh
# How the router is doing, by the one program that knows: for the command, the status page and whoever must know
# whether settings are kept.

# router_status text|json|page|kept: the last says whether settings are kept, and why not, and ends with 1 when not.
router_status() {
    # The kernel's own word for "somebody keeps this clock right": ntpd tells it, and setting the clock takes it back.
    case $(adjtimex 2>/dev/null) in
    '' | *UNSYNC*) _synced=false ;;
    *) _synced=true ;;
    esac
    if [ -r "$ROOT/etc/TZ" ]; then read -r TZ <"$ROOT/etc/TZ" && export TZ; fi
    _pending=false
    [ ! -e "$ROOT/etc/livebuilder/pending" ] || _pending=true
    LC_ALL=C awk -v view="$1" -v now="$(date +%s)" -v synced="$_synced" -v pending="$_pending" \
        -f "$ROOT/lib/livebuilder/record.awk" -f "$ROOT/lib/router/status.awk"
}
