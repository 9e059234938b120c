# shellcheck shell=sh disable=SC2034,SC2154  # config_get and facts_get set variables by name; the parts share them
# IPv6: on when the provider delegates a prefix (RFC 8415), off otherwise. Nothing in between: without a prefix no
# machine here has an address of the Internet, this router included, and nothing is forwarded.
#
# dhcp6c puts the first address of the whole prefix onto lo, whatever the length, and takes it away when it has run out;
# the first /64 of it becomes the LAN's.

DHCP6C_PID=/tmp/run/dhcp6c.pid
DHCP6C_CONFIG=/tmp/run/dhcp6c.conf

# ipv6_prepare: IPV6_WANTED=yes, or the facts say why not. The card of the WAN is told before it is up.
ipv6_prepare() {
    IPV6_WANTED=
    config_get _ipv6 wan ipv6 auto
    if [ "$_ipv6" = off ]; then
        ipv6_is_off "it is switched off (option ipv6 off in /etc/config/network)"
    elif [ ! -e "$ROOT/proc/sys/net/ipv6" ]; then
        ipv6_is_off "this kernel has none"
    elif ! command -v dhcp6c >/dev/null; then
        ipv6_is_off "there is no dhcp6c to ask the provider for a prefix"
    else
        IPV6_WANTED=yes
        ipv6_is_off "WAN is not up"
        ipv6_listen "$WAN"
        return 0
    fi
    set_kernel "net/ipv6/conf/$WAN/disable_ipv6" 1
}

ipv6_is_off() { facts_write ipv6 state=off prefix= "reason=$1"; }

# ipv6_listen DEVICE: the default route comes by router advertisements, also (2) while this router forwards; an address
# does not.
ipv6_listen() {
    set_kernel "net/ipv6/conf/$1/disable_ipv6" 0
    set_kernel "net/ipv6/conf/$1/autoconf" 0
    set_kernel "net/ipv6/conf/$1/accept_ra" 2
}

# ipv6_start DEVICE: WAN has come up; ask for a prefix.
ipv6_start() {
    ipv6_prepare
    [ -n "$IPV6_WANTED" ] || return 0
    ipv6_is_off "the provider delegates no prefix"
    ipv6_listen "$1"
    cat >"$ROOT$DHCP6C_CONFIG" <<EOT
interface $1 { send ia-pd 0; script "$ROOT/lib/router/dhcp6c"; };
id-assoc pd 0 { prefix-interface lo { sla-id 0; sla-len 0; ifid 1; }; };
EOT
    # A provider knows its customers by this number, and gives the same prefix to the same one.
    mkdir -p "$ROOT/tmp/lib/dhcpv6"
    ln -sf "$ROOT/etc/livebuilder/dhcp6c_duid" "$ROOT/tmp/lib/dhcpv6/dhcp6c_duid"
    ${RUN:+"$RUN"} dhcp6c -f -c "$ROOT$DHCP6C_CONFIG" -p "$ROOT$DHCP6C_PID" "$1" </dev/null >/dev/null 2>&1 &
    echo $! >"$ROOT$DHCP6C_PID"
}

# ipv6_stop: dhcp6c gives the prefix back and takes it off lo.
ipv6_stop() {
    end_process "$DHCP6C_PID"
    ipv6_withdraw
    ipv6_is_off "WAN is not up"
}

# delegated: PREFIX = the first /64 of what dhcp6c has put onto lo, as 2001:0db8:0000:0000, or nothing.
delegated() {
    PREFIX=
    [ -r "$ROOT/proc/net/if_inet6" ] || return 0
    while read -r _hex _ _length _scope _ _name; do
        # Scope 0 is the whole Internet.
        if [ "$_name:$_scope" != lo:00 ] || [ $((0x$_length)) -gt 64 ]; then continue; fi
        _one=${_hex#????}
        _two=${_one#????}
        _three=${_two#????}
        PREFIX=${_hex%"$_one"}:${_one%"$_two"}:${_two%"$_three"}:${_three%????????????????}
    done <"$ROOT/proc/net/if_inet6"
}

# ipv6_changed: whether the LAN's prefix is not the one that is delegated.
ipv6_changed() {
    delegated
    facts_get _prefix ipv6 prefix
    [ "$_prefix" != "${PREFIX:+$PREFIX::/64}" ]
}

ipv6_update() {
    ipv6_changed || return 0
    ipv6_withdraw
    if [ -z "$PREFIX" ]; then
        ipv6_is_off "the provider has taken its prefix back"
        return 0
    fi
    facts_get _device wan device
    run ip addr add "$PREFIX::1/64" dev "$LAN"
    # Where the whole prefix is one /64, the way to it must not be lo.
    run ip -6 route del "$PREFIX::/64" dev lo 2>/dev/null || :
    set_kernel net/ipv6/conf/all/forwarding 1
    # At the other end of a line of PPPoE is one machine, which need not say that it is a router.
    [ "$_device" = "$WAN" ] || run ip -6 route replace default dev "$_device"
    facts_write ipv6 state=on "prefix=$PREFIX::/64" reason=
    iface_event ifup wan6 "$_device"
}

# ipv6_withdraw: as if there had never been a prefix.
ipv6_withdraw() {
    facts_get _prefix ipv6 prefix
    [ -n "$_prefix" ] || return 0
    set_kernel net/ipv6/conf/all/forwarding 0
    run ip addr del "${_prefix%/64}1/64" dev "$LAN"
    facts_get _device wan device
    iface_event ifdown wan6 "$_device"
}
