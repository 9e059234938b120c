# shellcheck shell=sh
# What dnsmasq is told, made from /etc/config/dhcp (which the caller has loaded) and what the lan is now.
# shellcheck disable=SC2154  # config_get sets variables by name

# shellcheck source=initramfs/router/lib/router/address.sh
. "$ROOT/lib/router/address.sh"

# dnsmasq_config ADDRESS PREFIX HOSTNAME IPV6: its configuration; IPV6 is on or off.
dnsmasq_config() {
    _domain=lan
    config_foreach _take_domain dnsmasq
    cat <<EOF
# Made by /etc/init.d/dnsmasq from /etc/config/dhcp: changes here are lost.
user=nobody
group=nogroup
pid-file=/tmp/run/dnsmasq.pid

# Who asks through another card gets no answer.
interface=br-lan
bind-dynamic

# Names without a domain and private addresses are not asked for outside; no name from there leads into the lan.
domain-needed
bogus-priv
stop-dns-rebind
rebind-localhost-ok
resolv-file=/tmp/resolv.conf.auto
cache-size=1000
domain=$_domain
local=/$_domain/
expand-hosts
host-record=router.$_domain,router,$1
EOF
    case $3 in
    router | '' | *[!A-Za-z0-9-]*) ;;
    *) echo "host-record=$3.$_domain,$3,$1" ;;
    esac
    config_get _ignored lan ignore
    [ "$_ignored" = 1 ] || _dhcp_config "$1" "$2"
    [ "$4" != on ] || printf '\n%s\n' enable-ra 'dhcp-range=::,constructor:br-lan,ra-stateless,ra-names'
}

_take_domain() {
    config_get _value "$1" domain lan
    case $_value in
    *[!A-Za-z0-9.-]*) warn "dnsmasq: domain '$_value' is no name: it stays $_domain" ;;
    *) _domain=$_value ;;
    esac
}

_dhcp_config() {
    config_get _time lan leasetime 12h
    case $_time in
    infinite) ;;
    [!0-9]* | *[!0-9]*[!0-9]* | *[!0-9smhdw])
        warn "dnsmasq: leasetime '$_time' is not understood: it is 12h"
        _time=12h
        ;;
    esac
    config_get _start lan start 100
    config_get _limit lan limit 150
    if ! _range=$(lease_range "$1" "$2" "$_start" "$_limit"); then
        warn "dnsmasq: start '$_start' with limit '$_limit' is nothing in $1/$2: all of it is given out"
        _range=$(lease_range "$1" "$2" 1 $((1 << 32))) || return 0
    fi
    cat <<EOF

dhcp-range=$_range,$_time
dhcp-authoritative
dhcp-leasefile=/etc/livebuilder/dhcp.leases
dhcp-hostsfile=/tmp/run/dnsmasq.hosts
EOF
}

# lease_range ADDRESS PREFIX START LIMIT: "FIRST,LAST", counted from the network's own address; returns 1 when not
# even the first is an address for a device.
lease_range() {
    case $3$4 in *[!0-9]*) return 1 ;; esac
    ipv4_network "$1/$2" && [ "$3" -ge 1 ] && [ "$4" -ge 1 ] && [ $((FIRST + $3)) -lt "$LAST" ] || return 1
    _last=$((FIRST + $3 + $4 - 1))
    [ "$_last" -lt "$LAST" ] || _last=$((LAST - 1))
    dotted $((FIRST + $3))
    _range=$TEXT
    dotted "$_last"
    echo "$_range,$TEXT"
}

# dnsmasq_hosts: the devices that always get the same address, one per line. What is wrong with a line dnsmasq says in
# its log, and leaves only that line out.
dnsmasq_hosts() { config_foreach _host_line host; }

_host_line() {
    config_get _macs "$1" mac
    config_get _ip "$1" ip
    config_get _name "$1" name
    _words=
    for _word in $_macs $_ip $_name; do
        _words=$_words,$_word
    done
    echo "${_words#,}"
}
