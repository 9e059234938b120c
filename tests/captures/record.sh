#!/bin/sh
# Take down what this machine says of its block devices, in the form of tests/support/sysfs.py:
#   sudo sh record.sh >NAME.txt
# Serial numbers are in it; change them if they are nobody's business, but keep their form.
set -eu

value() { tr '\n' '\001' <"$1" 2>/dev/null | sed 's/\x01/\\n/g; s/\(\\n\)*$//'; }

attributes() { # FOLDER NAME...: one line for each that can be read
    of=$1
    shift
    for name; do
        [ -f "$of/$name" ] || continue
        if text=$(value "$of/$name"); then
            printf '%s\n' "${of#/sys/devices/}/$name = $text"
        fi
    done
}

links() { # FOLDER NAME...
    of=$1
    shift
    for name; do
        [ ! -L "$of/$name" ] || echo "${of#/sys/devices/}/$name -> $(readlink "$of/$name")"
    done
}

parents() { # FOLDER: buses, and what a USB device says of itself
    parent=$1
    while [ "${parent#/sys/devices/*/}" != "$parent" ]; do
        if [ -L "$parent/subsystem" ]; then
            echo "${parent#/sys/devices/} : $(basename "$(readlink "$parent/subsystem")")"
        fi
        [ ! -e "$parent/idVendor" ] || attributes "$parent" idVendor idProduct serial
        parent=${parent%/*}
    done
}

for block in /sys/class/block/*; do
    folder=$(readlink -f "$block")
    attributes "$folder" dev size removable ro hidden partition start serial wwid uevent \
        queue/logical_block_size loop/backing_file dm/name
    links "$folder" device
    for below in holders slaves; do
        for link in "$folder/$below"/*; do links "$folder/$below" "$(basename "$link")"; done
    done
    device=$(readlink -f "$folder/device" || true)
    case $device in
        /sys/devices/*)
            attributes "$device" type vendor model name serial wwid
            if [ -r "$device/vpd_pg80" ]; then
                echo "${device#/sys/devices/}/vpd_pg80 =x $(od -An -v -tx1 "$device/vpd_pg80" | tr -d '\n' | sed 's/^ //')"
            fi
            ;;
    esac
    parents "${folder%/*}"
done | awk '!seen[$0]++'

for file in /proc/self/mountinfo /proc/swaps; do
    printf '%s\n' "$file = $(value "$file")"
done
if [ -e /run/udev/control ]; then
    for block in /sys/class/block/*; do
        number=$(cat "$block/dev")
        udevadm info --query=property "$block" | sed "s/^/udev $number /"
    done
fi
