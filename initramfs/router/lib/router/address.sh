# shellcheck shell=sh
# IPv4 addresses as numbers, to compare and to check what people type.
# shellcheck disable=SC2034  # the capitals are answers

# ipv4 TEXT: NUMBER = the address; 1 when it is none.
ipv4() {
    NUMBER=0
    _rest=$1.
    for _ in 1 2 3 4; do
        _octet=${_rest%%.*}
        _rest=${_rest#*.}
        case $_octet in
        '' | *[!0-9]* | 0?* | ????*) return 1 ;;
        esac
        [ "$_octet" -le 255 ] || return 1
        NUMBER=$((NUMBER * 256 + _octet))
    done
    [ -z "$_rest" ]
}

# dotted NUMBER: TEXT = the address as people write it.
dotted() { TEXT=$(($1 >> 24 & 255)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255)); }

# ipv4_network ADDRESS/N: ADDRESS, LENGTH (N), NETMASK in text, and NUMBER, FIRST, LAST of the network as numbers (FIRST
# names the network and LAST is its broadcast address); 1 when that is no address with the length of its network.
ipv4_network() {
    ADDRESS=${1%/*}
    LENGTH=${1#"$ADDRESS"/}
    case $LENGTH in
    [1-9] | [12][0-9] | 3[012]) ;;
    *) return 1 ;;
    esac
    ipv4 "$ADDRESS" || return 1
    _hosts=$(((1 << (32 - LENGTH)) - 1))
    FIRST=$((NUMBER & ~_hosts))
    LAST=$((NUMBER | _hosts))
    dotted $((4294967295 - _hosts))
    NETMASK=$TEXT
}

# prefix_length NETMASK: LENGTH = the ones of 255.255.255.0, which may also be written 24; 1 when it is neither.
prefix_length() {
    case $1 in
    [0-9] | [12][0-9] | 3[012]) LENGTH=$1 ;;
    *)
        ipv4 "$1" || return 1
        LENGTH=0
        while [ "$LENGTH" -lt 32 ] && [ $((NUMBER >> (31 - LENGTH) & 1)) = 1 ]; do
            LENGTH=$((LENGTH + 1))
        done
        [ $((NUMBER & ((1 << (32 - LENGTH)) - 1))) = 0 ]
        ;;
    esac
}

# overlap ADDRESS LENGTH ADDRESS LENGTH: whether the two networks have an address in common.
overlap() {
    ipv4 "$1" || return 1
    _one=$NUMBER
    ipv4 "$3" || return 1
    _shorter=$2
    [ "$4" -ge "$_shorter" ] || _shorter=$4
    [ $((_one >> (32 - _shorter))) = $((NUMBER >> (32 - _shorter))) ]
}

# free_lan ADDRESS LENGTH: FREE = the first of 192.168.1.1, 192.168.2.1 and on whose /24 does not touch that network.
free_lan() {
    for _range in 192.168 172.16 10.0; do
        _third=1
        while [ "$_third" -lt 255 ]; do
            FREE=$_range.$_third.1
            overlap "$FREE" 24 "$1" "$2" || return 0
            _third=$((_third + 1))
        done
    done
    return 1
}
