# dnsmasq's leases after a jump of the clock. Run as:
#   LC_ALL=C awk -v jump=SECONDS -v now=EPOCH -f leases.awk BEFORE AFTER
# BEFORE is the file as it was before the jump, AFTER what dnsmasq made of it since. A line is
#   END MAC ADDRESS NAME CLIENT-ID
# with END in seconds since 1970, 0 for never. From "duid" on the file is about IPv6, where we give no leases.

function moved(    rest) {
    rest = $0
    sub(/^[0-9]+/, "", rest)
    return sprintf("%.0f%s", $1 + jump, rest)
}

/^duid/ { part[FILENAME] = "ipv6" }

FILENAME == ARGV[1] {
    if (part[FILENAME] || $1 + 0 == 0) next
    before[$0] = 1
    given[++total] = moved()
    mac[total] = $2
    address[total] = $3
    next
}

part[FILENAME] { rest = rest $0 "\n"; next }

{
    seen[$2] = seen[$3] = 1
    # What is new and has not ended, though, was given after the jump.
    given_before = $1 + 0 != 0 && (($0 in before) || $1 + 0 <= now + 0)
    print given_before ? moved() : $0
}

END {
    for (i = 1; i <= total; i++)
        if (!(mac[i] in seen) && !(address[i] in seen)) print given[i]
    printf "%s", rest
}
