# shellcheck shell=sh
# Messages and the clock. Every step goes into the kernel log under one prefix; what a person must see goes onto
# every console (console.sh) as well. None of this forks: a fork costs a Pentium II milliseconds.

PREFIX=livebuilder
WARNINGS='' # one per line, for the record
PROBLEM=''  # set by whatever returns false: what failed, in words

# The one door to commands that change the machine: RUN is empty at boot and a recording stand-in under test.
run() { ${RUN:+"$RUN"} "$@"; }

# kernel_log LEVEL TEXT. Level 6 shows on the consoles unless the kernel was told to be quiet; 7 does not show.
kernel_log() {
    { printf '<%s>%s: %s\n' "$1" "$PREFIX" "$2" >>"$ROOT/dev/kmsg"; } 2>/dev/null
    return 0
}

# step TEXT: what is being done, for the kernel log.
step() { kernel_log 6 "$1"; }

# say TEXT: what a person must see, on every console and once in the kernel log.
say() {
    kernel_log 7 "$1"
    tell "$PREFIX: $1"
}

# warn TEXT: said, and kept for the record.
warn() {
    say "warning: $1"
    WARNINGS="$WARNINGS$1
"
}

# problem TEXT: remember what failed and return false, so that `… || return` reads well.
problem() {
    PROBLEM=$1
    step "$1"
    return 1
}

# clock: NOW = hundredths of a second since the kernel started.
clock() {
    read -r clock_uptime _ <"$ROOT/proc/uptime"
    NOW=$((${clock_uptime%.*} * 100 + 1${clock_uptime#*.} - 100)) # the 1 keeps "08" from being octal
}

# seconds HUNDREDTHS DIGITS(1|2): SECONDS_TEXT as a decimal number.
seconds() {
    seconds_fraction=$((100 + $1 % 100))
    seconds_fraction=${seconds_fraction#1}
    [ "$2" = 2 ] || seconds_fraction=${seconds_fraction%?}
    SECONDS_TEXT=$(($1 / 100)).$seconds_fraction
}
