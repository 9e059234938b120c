# shellcheck shell=sh disable=SC2034,SC2153,SC2154  # config_get and facts_get set variables by name; the parts share them
# The WAN: which card it is, and its address. That card is called "wan", whichever it is, so that the firewall and all
# others need one name.

WAN=wan
KEPT_CARD=/etc/livebuilder/wan # the MAC address of the card that was WAN and had an address
RESOLV=/tmp/resolv.conf.auto
CLIENT_PID=/tmp/run/router-client.pid
WATCH_PID=/tmp/run/router-watch.pid
PROBE_PID=/tmp/run/router-probe.pid

# wan_choose: CARD and CHOSEN (config or kept); or CHOSEN=dhcp when the cards have to be tried; or a REASON why none is.
# Needs CARDS.
wan_choose() {
    config_get _wanted wan device auto
    config_get _proto wan proto dhcp
    CARD=
    CHOSEN=
    REASON=
    if [ "$_proto" = none ]; then
        REASON="it is switched off (option proto none in /etc/config/network)"
    elif [ "$_wanted" != auto ]; then
        CHOSEN=config
        find_card "$_wanted" "$CARDS" || REASON="no card is '$_wanted', as /etc/config/network wants it: router set wan card auto"
    elif kept_card && find_card "$KEPT" "$CARDS"; then
        CHOSEN=kept
    else
        case $CARDS in
        *' '*) CHOSEN=dhcp ;;
        '') REASON="there is no network card" ;;
        *) REASON="there is only one network card, $CARDS, which is the LAN" ;;
        esac
    fi
}

# kept_card: KEPT = the MAC address that was kept.
kept_card() {
    KEPT=
    [ -r "$ROOT$KEPT_CARD" ] && read -r KEPT <"$ROOT$KEPT_CARD" && [ -n "$KEPT" ]
}

keep_card() {
    ! kept_card || [ "$KEPT" != "$1" ] || return 0
    mkdir -p "$ROOT${KEPT_CARD%/*}"
    echo "$1" >"$ROOT$KEPT_CARD.new" && mv "$ROOT$KEPT_CARD.new" "$ROOT$KEPT_CARD"
}

# wan_settle: CARD becomes WAN, all other CARDS the LAN.
wan_settle() {
    for _card in $CARDS; do
        [ "$_card" = "$CARD" ] || lan_join "$_card"
    done
    if [ -n "$CARD" ]; then
        wan_take "$CARD"
    else
        facts_write wan state=none device= chosen= "reason=$REASON"
        config_get _proto wan proto dhcp
        [ "$_proto" = none ] || say "network: no WAN: $REASON"
    fi
}

# wan_take CARD: rename it, and start.
wan_take() {
    card_facts "$1"
    # A card that is up keeps its name.
    run ip link set "$1" down
    run ip link set "$1" name "$WAN" || {
        say "network: no WAN: $1 cannot be called $WAN"
        return 0
    }
    config_get _proto wan proto dhcp
    facts_write wan state=down "proto=$_proto" "device=$WAN" "mac=$MAC" "driver=$DRIVER" "chosen=$CHOSEN"
    wan_start || return 0
    ${RUN:+"$RUN"} "$ROOT/lib/router/watch" </dev/null >/dev/null 2>&1 &
    echo $! >"$ROOT$WATCH_PID"
}

# wan_start: begin to get an address; returns 1 while the firewall is not in force.
wan_start() {
    facts_get _state firewall state
    if [ "$_state" != on ]; then
        wan_lose down "the firewall is not in force: /etc/init.d/firewall restart && /etc/init.d/network restart"
        return 1
    fi
    config_get _proto wan proto dhcp
    ipv6_prepare
    run ip link set "$WAN" up
    case $_proto in
    dhcp)
        wan_lose waiting "asking for an address"
        read -r _hostname <"$ROOT/proc/sys/kernel/hostname"
        wan_client udhcpc -f -S -i "$WAN" -s "$ROOT/lib/router/udhcpc" -x "hostname:$_hostname"
        ;;
    pppoe)
        wan_lose waiting "dialling"
        pppoe_start
        ;;
    static) wan_static ;;
    *) wan_lose down "proto '$_proto' in /etc/config/network is not dhcp, static, pppoe or none" ;;
    esac
}

# wan_client COMMAND...: the one program that gets the address, in the background. Only its own reports count.
wan_client() {
    ${RUN:+"$RUN"} "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"$ROOT$CLIENT_PID"
}

# is_client PID: whether that is the program of now, and not one that was ended while its report waited for the lock.
is_client() {
    _pid=
    [ -r "$ROOT$CLIENT_PID" ] && read -r _pid <"$ROOT$CLIENT_PID"
    [ "$_pid" = "$1" ]
}

# end_process PIDFILE
end_process() {
    [ -r "$ROOT$1" ] || return 0
    read -r _pid <"$ROOT$1"
    rm -f "$ROOT$1"
    run kill "$_pid" 2>/dev/null || :
}

wan_stop() {
    end_process "$CLIENT_PID"
    wan_lose down "${1:-stopped}"
    run ip link set "$WAN" down
}

wan_static() {
    config_get _address wan ipaddr
    config_get _netmask wan netmask 255.255.255.0
    config_get _gateway wan gateway
    if ! ipv4 "$_address" || ! prefix_length "$_netmask" || ! ipv4 "${_gateway:-0.0.0.0}"; then
        wan_lose down "ipaddr '$_address', netmask '$_netmask', gateway '$_gateway' in /etc/config/network are no addresses"
        return 0
    fi
    wan_got "$_address" "$LENGTH" "$_gateway" "" ""
}

# wan_got ADDRESS LENGTH GATEWAY "NAMESERVER ..." LEASE_SECONDS: this is what the provider gave.
wan_got() {
    lan_yield "$1" "$2" "$3"
    facts_get _known wan address
    facts_get _known_length wan prefix
    facts_get _known_gateway wan gateway
    if [ "$_known/$_known_length $_known_gateway" != "$1/$2 $3" ]; then
        run ip -4 addr flush dev "$WAN"
        run ip addr add "$1/$2" broadcast + dev "$WAN"
        if [ -n "$3" ]; then
            # Some providers give a gateway outside the network.
            overlap "$1" "$2" "$3" 32 || run ip route replace "$3" dev "$WAN"
            run ip route replace default via "$3" dev "$WAN"
        fi
    fi
    wan_ready "$WAN" "$@"
}

# wan_ready DEVICE ADDRESS LENGTH GATEWAY "NAMESERVER ..." LEASE_SECONDS: the address is set; tell everybody.
wan_ready() {
    facts_get _state wan state
    facts_get _before wan address
    facts_get MAC wan mac
    facts_get CHOSEN wan chosen
    facts_get _since wan since
    config_get _servers wan dns "$5"
    _change=$(resolv_conf "$_servers")
    _event=
    if [ "$_state" != up ]; then
        _event=ifup
        read -r _since _ <"$ROOT/proc/uptime"
    elif [ "$_before" != "$2" ] || [ -n "$_change" ]; then
        _event=ifupdate
    fi
    if [ "$CHOSEN" != config ]; then
        # What was a guess has proved right.
        [ "$CHOSEN" != guess ] || CHOSEN=dhcp
        keep_card "$MAC"
    fi
    facts_change wan state=up "device=$1" "address=$2" "prefix=$3" "gateway=$4" "dns=$_servers" "lease_seconds=$6" \
        "since=${_since%.*}" "chosen=$CHOSEN" reason=
    [ "$_event" != ifup ] || ipv6_start "$1"
    [ -z "$_event" ] || iface_event "$_event" wan "$1"
}

# wan_lose STATE REASON: there is no address, or no longer.
wan_lose() {
    facts_get _state wan state
    facts_get _device wan device
    if [ "$_state" = up ]; then
        ipv6_stop
        run ip -4 addr flush dev "$WAN"
    fi
    facts_change wan "state=$1" "device=$WAN" address= prefix= gateway= dns= lease_seconds= since= "reason=$2"
    resolv_conf "" >/dev/null
    [ "$_state" != up ] || iface_event ifdown wan "$_device"
}

# resolv_conf "NAMESERVER ...": write them where dnsmasq looks; prints a word when that changed anything.
resolv_conf() {
    _text=
    for _server in $1; do
        _text="${_text}nameserver $_server
"
    done
    _old=
    [ ! -r "$ROOT$RESOLV" ] || _old=$(cat "$ROOT$RESOLV" && echo .)
    [ "$_old" != "$_text." ] || return 0
    printf '%s' "$_text" >"$ROOT$RESOLV.new" && mv "$ROOT$RESOLV.new" "$ROOT$RESOLV"
    echo changed
}

# wan_link up|down|gone: what the watcher saw. A cable that comes back may lead to another network: ask anew.
wan_link() {
    case $1 in
    up)
        config_load network
        wan_start
        ;;
    gone) wan_stop "the card was pulled out" ;;
    down)
        end_process "$CLIENT_PID"
        wan_lose down "nothing answers at the other end of the cable"
        ;;
    esac
}
