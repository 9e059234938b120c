# shellcheck shell=sh disable=SC2034,SC2154  # config_get and facts_get set variables by name; the parts share them
# The network cards of this PC, as /sys/class/net has them. No program is run but sort and tr.

NET=/sys/class/net

# is_card NAME: a card is a piece of hardware (no bridge, no tunnel) for a cable.
is_card() { [ -e "$ROOT$NET/$1/device" ] && [ ! -e "$ROOT$NET/$1/phy80211" ]; }

# find_cards: CARDS = their names, in the order the kernel met them.
find_cards() {
    CARDS=$(
        for _path in "$ROOT$NET"/*; do
            is_card "${_path##*/}" && read -r _index <"$_path/ifindex" && echo "$_index ${_path##*/}"
        done | sort -n | while read -r _ _name; do printf ' %s' "$_name"; done
    )
    CARDS=${CARDS# }
}

# card_facts NAME: MAC and DRIVER.
card_facts() {
    MAC=
    DRIVER=
    [ ! -r "$ROOT$NET/$1/address" ] || read -r MAC <"$ROOT$NET/$1/address"
    [ -r "$ROOT$NET/$1/device/uevent" ] || return 0
    while IFS='=' read -r _key _value; do
        [ "$_key" != DRIVER ] || DRIVER=$_value
    done <"$ROOT$NET/$1/device/uevent"
}

# find_card WANTED "NAME NAME ...": CARD = the first of them with that MAC, driver or name, or nothing.
find_card() {
    _lower=$(printf '%s' "$1" | tr "[:upper:]" "[:lower:]")
    for CARD in $2; do
        card_facts "$CARD"
        case $_lower in
        "$MAC" | "$DRIVER" | "$CARD") return 0 ;;
        esac
    done
    CARD=
    return 1
}

# has_link NAME: whether something answers at the other end of its cable. The kernel tells of no card that is down.
has_link() {
    _carrier=
    { read -r _carrier <"$ROOT$NET/$1/carrier"; } 2>/dev/null
    [ "$_carrier" = 1 ]
}
