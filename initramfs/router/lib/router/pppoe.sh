# shellcheck shell=sh disable=SC2034,SC2154  # config_get and facts_get set variables by name; the parts share them
# PPPoE: pppd dials over the WAN's card and makes pppoe-wan.

PPP_DEVICE=pppoe-wan
PPP_OPTIONS=/tmp/run/pppoe-options

pppoe_start() {
    config_get _user wan username
    config_get _password wan password
    if [ -z "$_user" ] || [ -z "$_password" ]; then
        wan_lose down "option username and option password of wan are missing in /etc/config/network"
        return 0
    fi
    if [ ! -x "$ROOT/usr/sbin/pppd" ]; then
        wan_lose down "there is no pppd: this image was built without ppp"
        return 0
    fi
    # By this the kernel knows what to load, as it does by the sockets that pppd opens.
    [ -e "$ROOT/dev/ppp" ] || run mknod -m 600 "$ROOT/dev/ppp" c 108 0
    pppoe_options "$_user" "$_password" | (umask 077 && cat >"$ROOT$PPP_OPTIONS")
    wan_client pppd file "$PPP_OPTIONS"
}

# pppoe_up ADDRESS PEER: what pppd reports; the name servers are in DNS1 and DNS2.
pppoe_up() {
    is_client "$PPPD_PID" || return 0
    config_load network
    lan_yield "$1" 32 "$2"
    # A provider with one name server has it in both.
    _servers=${DNS1:-}
    [ "${DNS2:-}" = "$_servers" ] || _servers="$_servers ${DNS2:-}"
    wan_ready "$PPP_DEVICE" "$1" 32 "$2" "$_servers" ""
}

pppoe_down() {
    is_client "$PPPD_PID" || return 0
    wan_lose waiting "the line was closed; dialling again"
}

# pppoe_options USER PASSWORD: in a file, because everybody can read what stands on a command line.
pppoe_options() {
    cat <<EOT
plugin rp-pppoe.so
nic-$WAN
ifname $PPP_DEVICE
user $(pppd_quoted "$1")
password $(pppd_quoted "$2")
ip-up-script $ROOT/lib/router/ppp-up
ip-down-script $ROOT/lib/router/ppp-down
nodetach
noauth
noipdefault
defaultroute
usepeerdns
noaccomp
nopcomp
noccp
nodeflate
nobsdcomp
mtu 1492
mru 1492
persist
maxfail 0
holdoff 10
lcp-echo-interval 15
lcp-echo-failure 4
EOT
    [ -z "$IPV6_WANTED" ] || echo +ipv6
}

# pppd's own quoting.
pppd_quoted() { printf '"%s"' "$(printf '%s' "$1" | sed 's/["\\]/\\&/g')"; }
