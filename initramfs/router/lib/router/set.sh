# shellcheck shell=sh
# router set: what people change first. All of it is checked before the first word is written.
# shellcheck disable=SC2015,SC2154  # "checks || wrong" is meant; config_get and facts_get set variables by name

# wrong MESSAGE EXAMPLE: what was typed cannot be meant.
wrong() {
    warn "router: error: $1"
    warn "  try: $2"
    exit 2
}

set_setting() {
    _what=${1:-}
    [ $# -eq 0 ] || shift
    case $_what in
    lan | hostname | timezone | dhcp | dns) "set_$_what" "$@" ;;
    wan)
        _what=${1:-}
        [ $# -eq 0 ] || shift
        case $_what in
        dhcp | static | pppoe | card) "set_wan_$_what" "$@" ;;
        *) usage_error "router set wan needs dhcp, static, pppoe or card" ;;
        esac
        ;;
    *) usage_error "router set does not know '$_what'" ;;
    esac
}

set_lan() {
    [ $# -eq 1 ] && ipv4_network "$1" && [ "$LENGTH" -ge 8 ] && [ "$LENGTH" -le 30 ] ||
        wrong "'$*' is no address with the length of its network, 8 to 30" "router set lan 192.168.1.1/24"
    usable_host "$1" "router set lan"
    facts_get _wan_address wan address
    facts_get _wan_prefix wan prefix
    if overlap "$ADDRESS" "$LENGTH" "$_wan_address" "$_wan_prefix"; then
        free_lan "$_wan_address" "$_wan_prefix"
        fail "the WAN is in that network, with $_wan_address/$_wan_prefix" "router set lan $FREE/24"
    fi
    begin_change
    assign network lan ipaddr "$ADDRESS"
    assign network lan netmask "$NETMASK"
    end_change_or_wait "The LAN is $1 now, and every device asks for a new address. Then: ssh root@$ADDRESS" \
        "network restart lan"
}

# usable_host ADDRESS/N EXAMPLE: one that a device can have, not the name of the whole network.
usable_host() {
    ipv4_network "$1"
    case $ADDRESS in
    0.* | 127.* | 169.254.* | 22[4-9].* | 2[345]?.*)
        wrong "$ADDRESS cannot be the address of a router" "$2 192.168.1.1/24"
        ;;
    esac
    if [ "$((NUMBER == FIRST || NUMBER == LAST))" -eq 1 ]; then
        dotted $((FIRST + 1))
        wrong "$ADDRESS names the whole network, not the router in it" "$2 $TEXT/${1#*/}"
    fi
}

set_wan_dhcp() {
    [ $# -eq 0 ] || usage_error "router set wan dhcp takes nothing more"
    begin_change
    assign network wan proto dhcp
    end_change "network restart"
}

set_wan_static() {
    _example="router set wan static 203.0.113.5/24 203.0.113.1 9.9.9.9"
    [ $# -ge 2 ] && ipv4_network "$1" && [ "$LENGTH" -le 30 ] ||
        wrong "an address with the length of its network and a gateway are needed" "$_example"
    usable_host "$1" "router set wan static"
    ipv4 "$2" && [ "$((NUMBER > FIRST && NUMBER < LAST))" -eq 1 ] && [ "$2" != "$ADDRESS" ] ||
        wrong "the gateway '$2' is no other address in $1" "$_example"
    _address=$ADDRESS _netmask=$NETMASK _length=$LENGTH _gateway=$2
    lan_network
    if overlap "$ADDRESS" "$LENGTH" "$_address" "$_length"; then
        free_lan "$_address" "$_length"
        fail "the LAN is in that network, with $ADDRESS/$LENGTH" "router set lan $FREE/24"
    fi
    shift 2
    check_servers "$@"
    begin_change
    assign network wan proto static
    assign network wan ipaddr "$_address"
    assign network wan netmask "$_netmask"
    assign network wan gateway "$_gateway"
    [ $# -eq 0 ] || assign network wan dns "$*"
    end_change "network restart"
}

# lan_network: ipv4_network of the LAN as it is set.
lan_network() {
    config_load network
    config_get _lan lan ipaddr 192.168.1.1
    config_get _mask lan netmask 255.255.255.0
    prefix_length "$_mask" && ipv4_network "$_lan/$LENGTH" ||
        fail "the LAN has no address in /etc/config/network" "router set lan 192.168.1.1/24"
}

check_servers() {
    for _server; do
        ipv4 "$_server" || wrong "'$_server' is no address of a name server" "router set dns 9.9.9.9 149.112.112.112"
    done
}

set_wan_pppoe() {
    [ $# -eq 1 ] || usage_error "router set wan pppoe needs the user's name, and reads the password"
    if [ -t 0 ]; then
        printf 'Password for %s: ' "$1"
        trap 'stty echo' EXIT
        stty -echo
    fi
    IFS= read -r _password || :
    if [ -t 0 ]; then
        stty echo
        echo
    fi
    for _word in "$1" "$_password"; do
        case $_word in
        '' | *[[:cntrl:]]* | *\'*\"* | *\"*\'*)
            wrong "user and password need at least one letter, and not both kinds of quotes" \
                "router set wan pppoe user@provider"
            ;;
        esac
    done
    begin_change
    chmod 600 "$ROOT/etc/config/network" # for root only from now on
    assign network wan proto pppoe
    assign network wan username "$1"
    assign network wan password "$_password"
    end_change "network restart"
}

set_wan_card() {
    [ $# -eq 1 ] || usage_error "router set wan card needs a card's name, its MAC address, or auto"
    list_cards
    case $CARDS in
    *' '*) ;;
    *) fail "one card is the LAN's, and there is no other" "router status" ;;
    esac
    _card=auto
    if [ "$1" != auto ]; then
        _card=$(printf %s "$LISTED" | awk -v word="$1" 'tolower(word) == $1 || word == $2 || word == $3 { print $1 }')
        [ "${#_card}" -eq 17 ] || wrong "'$1' is not one of the cards here:
$LISTED" "router set wan card ${LISTED%% *}"
    fi
    begin_change
    assign network wan device "$_card"
    [ "$_card" != auto ] || rm -f "$ROOT/etc/livebuilder/wan"
    end_change_or_wait "The WAN's card is $_card now." "network restart"
}

# list_cards: CARDS, their names, and LISTED, a line each: MAC address, name, driver.
list_cards() {
    find_cards
    LISTED=
    for _card in $CARDS; do
        card_facts "$_card"
        LISTED="$LISTED$MAC $_card $DRIVER
"
    done
}

set_hostname() {
    [ $# -eq 1 ] && [ "${#1}" -le 63 ] && case $1 in '' | -* | *- | *[!A-Za-z0-9-]*) false ;; esac ||
        wrong "'$*' is no host name: letters, digits and hyphens in between, at most 63" "router set hostname attic"
    begin_change
    assign system @system[0] hostname "$1"
    run hostname "$1"
    end_change "dnsmasq restart"
}

set_timezone() {
    _name='(<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})'
    _offset='[+-]?[0-9]{1,2}(:[0-9]{2}){0,2}'
    _rule="(M[0-9]{1,2}\\.[1-5]\\.[0-6]|J?[0-9]{1,3})(/$_offset)?"
    _zone="$_name$_offset($_name($_offset)?(,$_rule,$_rule)?)?"
    [ $# -eq 1 ] && case $1 in *[[:space:]]*) false ;; esac && printf '%s\n' "$1" | grep -Eqx "$_zone" ||
        wrong "'$*' is no time zone as POSIX has it: the last line of a file in /usr/share/zoneinfo of another PC is" \
            "router set timezone CET-1CEST,M3.5.0,M10.5.0/3"
    begin_change
    assign system @system[0] timezone "$1"
    echo "$1" >"$ROOT/tmp/TZ"
    end_change
}

set_dhcp() {
    lan_network
    dotted $((FIRST + 1))
    _example="router set dhcp $TEXT-"
    dotted $((LAST - 1))
    _example=$_example$TEXT
    [ $# -eq 1 ] && case $1 in *-*) place_in_lan "${1%%-*}" && _first=$PLACE && place_in_lan "${1#*-}" ;; *) false ;; esac ||
        wrong "'$*' is no range of addresses of the LAN" "$_example"
    [ "$_first" -ge 1 ] && [ "$PLACE" -ge "$_first" ] && [ "$PLACE" -lt $((LAST - FIRST)) ] ||
        wrong "the range '$1' is not inside the LAN, $ADDRESS/$LENGTH" "$_example"
    begin_change
    assign dhcp lan start "$_first"
    assign dhcp lan limit $((PLACE - _first + 1))
    end_change "dnsmasq restart"
}

# place_in_lan TEXT: PLACE = an address, or a number already, counted from the name of the LAN's network.
place_in_lan() {
    case $1 in
    '' | *[!0-9.]* | ????????????????*) return 1 ;;
    *.*) ipv4 "$1" && PLACE=$((NUMBER - FIRST)) ;;
    *) PLACE=$1 ;;
    esac
}

set_dns() {
    [ $# -gt 0 ] || usage_error "router set dns needs addresses of name servers, or auto for those of the provider"
    if [ "$*" = auto ]; then set --; else check_servers "$@"; fi
    begin_change
    assign network wan dns "$*"
    end_change "network restart"
}
