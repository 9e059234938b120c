# Change one option in a file of /etc/config and leave every other line as it is. Run as:
#   SECTION=lan OPTION=ipaddr VALUE=10.0.0.1 LC_ALL=C awk -f config_set.awk /etc/config/network
# SECTION is a section's name, or @TYPE[N] for the Nth (from 0) section of that type, as in OpenWrt's uci. An empty
# VALUE takes the option away. Ends with 1 when there is no such section.

function bare(word) {
    gsub(/["'\r]/, "", word)
    return word
}

BEGIN {
    option = ENVIRON["OPTION"]
    value = ENVIRON["VALUE"]
    quote = index(value, "'") ? "\"" : "'"
    wanted = "\toption " option " " quote value quote
}

{ line[NR] = $0 }

$1 == "config" {
    type = bare($2)
    inside = ENVIRON["SECTION"] == (NF > 2 && $3 !~ /^#/ ? bare($3) : "") || ENVIRON["SECTION"] == "@" type "[" (seen[type]++ + 0) "]"
}

inside && ($1 == "config" || $1 == "option" || $1 == "list") { place = NR }

inside && ($1 == "option" || $1 == "list") && bare($2) == option {
    old[NR] = 1
    if (!first) first = NR
}

END {
    for (i = 1; i <= NR; i++) {
        if (!(i in old)) print line[i]
        if (value != "" && i == (first ? first : place)) print wanted
    }
    exit place == 0
}
