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

# ipv4_network ADDRESS/N: ADDRESS, LENGTH (N), NETMASK in text, and NUMBER, FIRST, LAST of the network as numbers (FIRST names the
# network and LAST is its broadcast address); 1 when that is no address with the length of its network.
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
