# shellcheck shell=sh disable=SC2034,SC2154  # config_get and facts_get set variables by name; the parts share them
# The whole network: up, down, and everything that its programs share.

: "${PATH:=/usr/sbin:/usr/bin:/sbin:/bin}"
export PATH

# shellcheck source=initramfs/router/lib/functions.sh
. "$ROOT/lib/functions.sh"
for _part in address cards console events facts ipv6 lan lock pppoe wan; do
    # shellcheck disable=SC1090  # the parts of this folder
    . "$ROOT/lib/router/$_part.sh"
done

network_up() {
    config_load network || say "network: there is no /etc/config/network: LAN has 192.168.1.1, WAN asks for an address"
    run ip link set lo up
    lan_up
    iface_event ifup lan "$LAN"
    find_cards
    wan_choose
    if [ "$CHOSEN" = dhcp ]; then
        facts_write wan state=waiting chosen= "reason=trying which card gets an address"
        ${RUN:+"$RUN"} "$ROOT/lib/router/probe" </dev/null >/dev/null 2>&1 &
        echo $! >"$ROOT$PROBE_PID"
    else
        wan_settle
    fi
}

network_down() {
    end_process "$PROBE_PID"
    end_process "$WATCH_PID"
    facts_get _chosen wan chosen
    if [ -n "$_chosen" ]; then
        wan_stop
        run ip link set "$WAN" name eth%d # the kernel puts the first free number there
    fi
    iface_event ifdown lan "$LAN"
    lan_down
}
