# shellcheck shell=sh
# One stick for many machines: what lies in by-mac/MAC/ on it is laid over upper/ where a network card has that address,
# and what is changed on that machine stays there.

MACHINES=by-mac
MACHINE=$ROOT/machine # a link to the folder: the overlay's lowerdir= would be cut at the colons of its name
BY_MAC=''             # the name of this machine's folder, as it is written on the stick

# find_machine: of several folders the one with the lowest address. Drivers of network cards are loaded here only when
# the stick has such folders.
find_machine() {
    [ "$STORAGE_STATE" != volatile ] || return 0
    set -- "$STICK/$MACHINES"/*/
    [ -d "$1" ] || return 0
    start_network_drivers
    read_cards
    machine_lines=''
    machine_names=''
    for machine_folder; do
        machine_folder=${machine_folder%/}
        compare_folder "${machine_folder##*/}"
    done
    if [ -z "$machine_lines" ]; then
        step "machine: no folder in /$MACHINES is for a network card of this machine:$machine_cards"
        return
    fi
    BY_MAC=$(printf '%s' "$machine_lines" | LC_ALL=C sort | head -n 1)
    BY_MAC=${BY_MAC#* }
    [ "$machine_names" = "$BY_MAC" ] ||
        warn "folders in /$MACHINES for several cards of this machine: $machine_names; taking $BY_MAC, the lowest"
    if [ "$LB_OVERLAY_BY" = hook ]; then
        warn "/$MACHINES/$BY_MAC on the stick is not used: this root lays the overlay itself"
        BY_MAC=''
        return
    fi
    run ln -sfn "$STICK/$MACHINES/$BY_MAC" "$MACHINE"
}

# compare_folder NAME: into machine_lines when a card has that address, in whatever way people write it.
compare_folder() {
    bare_mac "$1"
    case $MAC in
        *[!0-9a-f]*) MAC='' ;;
    esac
    if [ "${#MAC}" -ne 12 ]; then
        hex_of "$1"
        characters_from_hex "$HEX" plain
        warn "/$MACHINES/$TEXT on the stick is not named by the address of a network card"
        return
    fi
    case "$machine_cards " in
        *" $MAC "*) ;;
        *) return 0 ;;
    esac
    machine_lines="$machine_lines$MAC $1
"
    machine_names="$machine_names${machine_names:+ and }$1"
}

# bare_mac TEXT: MAC = its digits only, in small letters.
bare_mac() { MAC=$(printf '%s' "$1" | tr -d ':-' | tr A-F a-f); }

# read_cards: machine_cards, their addresses, a blank before each.
read_cards() {
    machine_cards=''
    for machine_card in "$ROOT"/sys/class/net/*/address; do
        machine_address=''
        { read -r machine_address <"$machine_card"; } 2>/dev/null
        bare_mac "$machine_address"
        [ "$MAC" = 000000000000 ] || machine_cards="$machine_cards $MAC" # the loopback, and what is no Ethernet
    done
}

# start_network_drivers: by what the PCI bus says (class 02), and for all that USB has but keyboards, disks and hubs; then
# for virtio's own bus, which is there once the driver of its PCI side is.
start_network_drivers() {
    find_aliases pci 'pci:*bc02*'
    machine_aliases=$ALIASES
    find_aliases usb 'usb:*ic0[!389]*' 'usb:*ic[!0]*'
    # shellcheck disable=SC2086 # a word each
    load_modules $machine_aliases $ALIASES
    # shellcheck disable=SC2086
    ! find_aliases virtio 'virtio:d00000001*' || load_modules $ALIASES
}
