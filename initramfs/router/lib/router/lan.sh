# shellcheck shell=sh disable=SC2034,SC2154  # config_get and facts_get set variables by name; the parts share them
# The LAN: the bridge br-lan of all cards but one, and the router's address there.

LAN=br-lan

lan_up() {
    # The cards have no say in the bridge's name, so services can wait there before any card has come.
    run ip link add "$LAN" type bridge || say "network: this kernel has no bridges: the first card alone is the LAN"
    facts_write lan state=up address= prefix= ports= moved_from= reason=
    lan_address
}

# Its ports are free then. Where the bridge is a card's name, the card gets one of the kernel's back.
lan_down() {
    run ip link set "$LAN" down
    run ip link del "$LAN" || run ip link set "$LAN" name eth%d
}

# lan_again: the settings have changed, maybe to what they were before WAN got the address it has.
lan_again() {
    config_load network
    lan_address
    facts_get _address wan address
    facts_get _prefix wan prefix
    facts_get _gateway wan gateway
    lan_evade "$_address" "$_prefix" "$_gateway" || :
    lan_tell
}

# lan_tell: every device is made to ask for a new address.
lan_tell() {
    iface_event ifupdate lan "$LAN"
    lan_wake
}

# lan_address: give the bridge the address of /etc/config/network.
lan_address() {
    config_get address lan ipaddr 192.168.1.1
    config_get netmask lan netmask 255.255.255.0
    reason=
    if ! ipv4 "$address" || ! prefix_length "$netmask"; then
        reason="/etc/config/network: ipaddr '$address' with netmask '$netmask' is no address; 192.168.1.1 is used"
        say "network: $reason"
        address=192.168.1.1
        LENGTH=24
    fi
    run ip -4 addr flush dev "$LAN"
    run ip addr add "$address/$LENGTH" broadcast + dev "$LAN"
    run ip link set "$LAN" up
    facts_change lan "address=$address" "prefix=$LENGTH" moved_from= "reason=$reason"
}

# lan_join CARD: make it a port of the bridge.
lan_join() {
    facts_get ports lan ports
    if run ip link set "$1" master "$LAN"; then
        # A bridge takes the lowest address of its ports, and another one when a card comes or goes, unless it was given.
        [ -n "$ports" ] || ! card_facts "$1" || run ip link set "$LAN" address "$MAC"
        set_kernel "net/ipv6/conf/$1/disable_ipv6" 1
        run ip link set "$1" up
    elif [ ! -e "$ROOT$NET/$LAN" ]; then
        run ip link set "$1" down
        run ip link set "$1" name "$LAN"
        lan_address
    else
        say "network: $1 could not be made a part of the LAN"
        return 0
    fi
    facts_change lan "ports=${ports:+$ports }$1"
}

# lan_leave CARD: it was pulled out.
lan_leave() {
    facts_get ports lan ports
    _left=
    for _port in $ports; do
        [ "$_port" = "$1" ] || _left=${_left:+$_left }$_port
    done
    facts_change lan "ports=$_left"
}

# lan_yield ADDRESS PREFIX GATEWAY: the provider's network cannot be changed, so the LAN moves when both are the same.
lan_yield() { ! lan_evade "$@" || lan_tell; }

# lan_evade: the same, and tell no device; 1 when there is no need.
lan_evade() {
    facts_get address lan address
    facts_get prefix lan prefix
    overlap "$address" "$prefix" "$1" "$2" || overlap "$address" "$prefix" "${3:-$1}" 32 || return 1
    free_lan "$1" "$2" || return 1
    _before=$address
    config_set network lan ipaddr "$FREE" && config_set network lan netmask 255.255.255.0
    config_load network
    lan_address
    facts_change lan "moved_from=$_before"
    say "network: WAN uses $1/$2 too, so the LAN has moved from $_before to $address: http://$address/"
}

# lan_wake: take the link away for a moment, which makes every PC ask for an address anew.
lan_wake() {
    facts_get ports lan ports
    for _port in $ports; do
        run ip link set "$_port" down
    done
    run sleep 2
    for _port in $ports; do
        run ip link set "$_port" up
    done
}
