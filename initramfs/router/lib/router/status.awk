# How the router is doing, as text, JSON or a web page. Run behind record.awk, which judges whether settings are kept:
#   LC_ALL=C awk -v view=text|json|page|kept -v now=SECONDS -v synced=true|false -v pending=true|false \
#       -f record.awk -f status.awk
#
# Facts come from /tmp/run/router, the lease file and /proc; any of them may be missing. Names of hosts are what some
# device on the network says: they pass plain(), and quoted() or html(), exactly once, where they are printed.

BEGIN {
    root = ENVIRON["ROOT"]
    if (view == "kept") {
        print reason == "" ? headline() : headline() ", " reason
        exit state != "persistent"
    }
    read_machine()
    read_facts("wan", "state proto device mac driver chosen address prefix gateway dns lease_seconds since reason")
    read_facts("lan", "address prefix ports moved_from reason")
    read_facts("ipv6", "state prefix reason")
    read_facts("settings", "notice")
    read_leases()
    if (view == "text") print_text()
    else if (view == "json") print_json()
    else if (view == "page") print_page()
}

# --- what there is to know ----------------------------------------------------------------------------------------

function first_line(path,    line) {
    line = ""
    if ((getline line < path) > 0) sub(/\r$/, "", line)
    close(path)
    return line
}

function read_machine(    path, line, field) {
    host = plain(first_line(root "/proc/sys/kernel/hostname"))
    if (host == "") host = "router"
    uptime = int(first_line(root "/proc/uptime"))
    path = root "/proc/meminfo"
    while ((getline line < path) > 0) {
        split(line, field, " ")
        memory[field[1]] = field[2]
    }
}

# known["wan.state"] and the like: only the keys that are asked for, with "" for what is not known.
function read_facts(name, keys,    path, line, at, key) {
    split(keys, key, " ")
    for (at in key) known[name "." key[at]] = ""
    path = root "/tmp/run/router/" name
    while ((getline line < path) > 0) {
        at = index(line, "=")
        if (at && (name "." substr(line, 1, at - 1)) in known)
            known[name "." substr(line, 1, at - 1)] = plain(substr(line, at + 1))
    }
    if ((name ".state") in known && known[name ".state"] == "") known[name ".state"] = "unknown"
}

# dnsmasq's file: end, MAC address, address, name (or *), client's own id; from a line "duid" on it is IPv6's.
function read_leases(    path, line, field) {
    path = root "/etc/livebuilder/dhcp.leases"
    leases = 0
    while ((getline line < path) > 0) {
        if (split(line, field, " ") < 4 || field[1] ~ /[^0-9]/) {
            if (line ~ /^duid/) break
            continue
        }
        if (field[1] > 0 && field[1] + 0 <= now + 0) continue
        leases++
        lease_left[leases] = field[1] > 0 ? field[1] - now : ""
        lease_mac[leases] = plain(field[2])
        lease_address[leases] = plain(field[3])
        lease_name[leases] = field[4] == "*" ? "" : plain(field[4])
    }
}

# Fit for a terminal, and the end of the line at most.
function plain(text) { return clean(substr(text, 1, 255)) }

function replaced(text, what, by,    out, at) {
    out = ""
    while (at = index(text, what)) {
        out = out substr(text, 1, at - 1) by
        text = substr(text, at + length(what))
    }
    return out text
}

function span(seconds,    days, hours, minutes) {
    days = int(seconds / 86400)
    hours = int(seconds % 86400 / 3600)
    minutes = int(seconds % 3600 / 60)
    if (days) return days (days == 1 ? " day" : " days") (hours ? " " hours " h" : "")
    if (hours) return hours " h" (minutes ? " " minutes " min" : "")
    return minutes ? minutes " min" : int(seconds) " s"
}

function joined(separator, first, second) {
    return first != "" && second != "" ? first separator second : first second
}

# --- sentences, the same on the terminal and on the page -----------------------------------------------------------

function capital(text) { return toupper(substr(text, 1, 1)) substr(text, 2) }

function network(name) {
    return known[name ".address"] known[name ".prefix"] == "" ? "" : known[name ".address"] "/" known[name ".prefix"]
}

function wan_headline(    how) {
    if (known["wan.state"] == "up") {
        how = known["wan.proto"] == "dhcp" ? "by DHCP" : known["wan.proto"] == "pppoe" ? "by PPPoE" : known["wan.proto"]
        return joined(" ", joined(", ", "up", network("wan")), how)
    }
    if (known["wan.state"] == "waiting" && known["wan.reason"] == "") return "waiting for an address"
    if (known["wan.state"] == "none") return "there is none"
    return known["wan.state"]
}

function wan_way() {
    return joined(", ", known["wan.gateway"] == "" ? "" : "gateway " known["wan.gateway"],
                  known["wan.dns"] == "" ? "" : "DNS " known["wan.dns"])
}

function wan_card(    why) {
    if (known["wan.mac"] == "") return ""
    why = known["wan.chosen"]
    if (why == "config") why = "set by you"
    else if (why == "kept") why = "the same as before"
    else if (why == "dhcp") why = "it got an address"
    else if (why == "guess") why = "a guess: router set wan card"
    return joined(" ", joined(" ", "card " known["wan.mac"], known["wan.driver"]), why == "" ? "" : "(" why ")")
}

function wan_seconds() {
    return known["wan.state"] == "up" && known["wan.since"] ~ /^[0-9]+$/ ? uptime - known["wan.since"] : ""
}

function wan_times() {
    if (wan_seconds() == "") return ""
    return joined(", ", "up for " span(wan_seconds()),
                  known["wan.lease_seconds"] > 0 ? "lease of " span(known["wan.lease_seconds"]) : "")
}

function lan_headline() {
    if (network("lan") == "") return "unknown"
    return network("lan") (known["lan.ports"] == "" ? "" : " on " known["lan.ports"])
}

function lan_move() {
    return known["lan.moved_from"] == "" ? "" : "moved here from " known["lan.moved_from"]
}

function ipv6_headline() {
    return joined(", ", known["ipv6.state"], known["ipv6.state"] == "on" ? known["ipv6.prefix"] : "")
}

function memory_line() {
    if (!memory["MemTotal:"]) return "unknown"
    return int(memory["MemAvailable:"] / 1024) " of " int(memory["MemTotal:"] / 1024) " MiB free"
}

function clock_line() {
    return strftime("%Y-%m-%d %H:%M %Z", now) ", " (synced == "true" ? "set by the network" : "not set by the network yet")
}

function lease_called(i) { return lease_name[i] == "" ? "(no name)" : lease_name[i] }

function lease_end(i) { return lease_left[i] == "" ? "no end" : span(lease_left[i]) }

function leases_line() {
    return leases ? leases (leases == 1 ? " device has an address" : " devices have an address") : "no device has an address"
}

function pending_line() {
    return pending == "true" ? "a change waits for: router confirm" : ""
}

# --- text ---------------------------------------------------------------------------------------------------------

function print_text(    i) {
    print host ", up " span(uptime)
    fact("settings", capital(headline()))
    fact("", reason)
    fact("", known["settings.notice"])
    fact("", pending_line())
    print_warnings()
    fact("WAN", wan_headline())
    fact("", known["wan.reason"])
    fact("", wan_way())
    fact("", wan_card())
    fact("", wan_times())
    fact("LAN", lan_headline())
    fact("", lan_move())
    fact("", known["lan.reason"])
    fact("IPv6", ipv6_headline())
    fact("", known["ipv6.reason"])
    fact("memory", memory_line())
    fact("clock", clock_line())
    fact("leases", leases_line())
    for (i = 1; i <= leases && i <= 10; i++)
        printf "    %-24s %-16s %-18s %s\n", lease_called(i), lease_address[i], lease_mac[i], lease_end(i)
    if (leases > 10) print "    and " leases - 10 " more: router status --json"
}

# --- JSON ---------------------------------------------------------------------------------------------------------

function print_json(    i) {
    printf "{\"version\":1"
    comma = ","
    put_text("name", host)
    put_text("livebuilder", get("livebuilder", ""))
    put_text("kernel", get("kernel", ""))
    put_number("uptime_seconds", uptime)
    begin("\n\"clock\":{")
    put_number("time", now)
    put("synced", synced)
    end("}")
    begin("\n\"memory\":{")
    put_number("total_kib", memory["MemTotal:"])
    put_number("available_kib", memory["MemAvailable:"])
    end("}")
    begin("\n\"settings\":{")
    put_text("state", state)
    put_text("reason", reason)
    put_text("device", get("storage.device", ""))
    put_text("label", get("storage.label", ""))
    put_text("notice", known["settings.notice"])
    put("pending", pending)
    put("warnings", "[" warnings() "]")
    end("}")
    begin("\n\"wan\":{")
    put_texts("wan", "state reason proto device mac driver chosen address gateway")
    put_number("prefix", known["wan.prefix"])
    put_number("lease_seconds", known["wan.lease_seconds"])
    put_number("up_seconds", wan_seconds())
    put_words("dns", known["wan.dns"])
    end("}")
    begin("\n\"lan\":{")
    put_texts("lan", "reason address moved_from")
    put_number("prefix", known["lan.prefix"])
    put_words("ports", known["lan.ports"])
    end("}")
    begin("\n\"ipv6\":{")
    put_texts("ipv6", "state reason prefix")
    end("}")
    begin("\n\"leases\":[")
    for (i = 1; i <= leases; i++) {
        begin("\n{")
        put_text("name", lease_name[i])
        put_text("address", lease_address[i])
        put_text("mac", lease_mac[i])
        put_number("seconds_left", lease_left[i])
        end("}")
    }
    end("]")
    print "}"
}

function begin(opening) {
    printf "%s%s", comma, opening
    comma = ""
}

function end(closing) {
    printf "%s", closing
    comma = ","
}

function put(key, json) {
    printf "%s\"%s\":%s", comma, key, json
    comma = ","
}

function put_text(key, plain_text) { put(key, quoted(plain_text)) }

function put_number(key, digits) { put(key, digits ~ /^[0-9]+$/ ? digits + 0 : "null") }

function put_texts(name, keys,    key, i, total) {
    total = split(keys, key, " ")
    for (i = 1; i <= total; i++) put_text(key[i], known[name "." key[i]])
}

function put_words(key, plain_text,    word, i, total, out) {
    out = ""
    total = split(plain_text, word, " ")
    for (i = 1; i <= total; i++) out = joined(",", out, quoted(word[i]))
    put(key, "[" out "]")
}

function warnings(    i, out) {
    out = ""
    for (i = 0; i < count["warnings"] + 0; i++) out = joined(",", out, quoted(get("warnings." i, "")))
    return out
}

function quoted(plain_text) {
    return plain_text == "" ? "null" : "\"" replaced(replaced(plain_text, "\\", "\\\\"), "\"", "\\\"") "\""
}

# --- the page -----------------------------------------------------------------------------------------------------

# A name from elsewhere that leads here is an attack (DNS rebinding): only the router's own names and address are served.
function is_own_name(name,    own) {
    name = tolower(name)
    sub(/:[0-9]*$/, "", name)
    own = tolower(host)
    return name ~ /^[^ ]+$/ && index(" router router.lan " own " " own ".lan " known["lan.address"] " ", " " name " ")
}

function print_page(    i) {
    if (!is_own_name(ENVIRON["HTTP_HOST"])) {
        print "Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r"
        print "This router answers to http://" known["lan.address"] "/ and http://router.lan/ only."
        return
    }
    print "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r"
    print "Referrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'; style-src 'self'; " \
        "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\r"
    print "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" html(host) " - router</title>"
    print "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
    print "<meta name=\"color-scheme\" content=\"light dark\">\n<meta http-equiv=\"refresh\" content=\"30\">"
    print "<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>"
    print "<header>" tag("h1", "", host) tag("p", "", "up " span(uptime)) "</header>\n<main>"

    box("settings", state == "persistent" ? "good" : "bad", "Storage", headline())
    sentence(reason)
    sentence(known["settings.notice"])
    sentence(pending_line())
    for (i = 0; i < count["warnings"] + 0; i++) sentence(get("warnings." i, ""))
    print "</section>"
    box("wan", wan_class(), "WAN", wan_headline())
    sentence(known["wan.reason"])
    sentence(wan_way())
    sentence(wan_times())
    sentence(wan_card(), "dim")
    print "</section>"
    box("lan", network("lan") == "" ? "bad" : "good", "LAN", lan_headline())
    sentence(lan_move())
    sentence(known["lan.reason"])
    print "</section>"
    box("ipv6", known["ipv6.state"] == "on" ? "good" : "off", "IPv6", ipv6_headline())
    sentence(known["ipv6.reason"])
    print "</section>"
    box("machine", "off", "This PC", memory_line())
    print_meter(memory["MemTotal:"] - memory["MemAvailable:"], memory["MemTotal:"])
    sentence(clock_line())
    sentence(listed("livebuilder " get("livebuilder", "?"), "Linux " get("kernel", "?")), "dim")
    print "</section>\n</main>"

    print "<section id=\"leases\">" tag("h2", "", capital(leases_line()))
    if (leases) print_lease_table()
    print "</section>\n<footer>"
    sentence("refreshed every 30 seconds; to change something: ssh root@" known["lan.address"] ", then router help")
    print "</footer>\n</body>\n</html>"
}

function wan_class() {
    return known["wan.state"] == "up" ? "good" : known["wan.state"] == "waiting" ? "slow" : "bad"
}

function print_lease_table(    i) {
    print "<table>\n<thead><tr><th>Name</th><th>Address</th><th>MAC</th><th>Time left</th></tr></thead>\n<tbody>"
    for (i = 1; i <= leases; i++)
        print "<tr>" tag("td", "name", lease_called(i)) tag("td", "address", lease_address[i]) \
            tag("td", "mac", lease_mac[i]) tag("td", "left", lease_end(i)) "</tr>"
    print "</tbody>\n</table>"
}

function print_meter(used, total) {
    if (total + 0) printf "<meter min=\"0\" max=\"%d\" value=\"%d\"></meter>\n", total, used
}

# A section whose colour is its class; the words say the same.
function box(id, class, title, line) {
    print "<section id=\"" id "\" class=\"" class "\">" tag("h2", "", title) tag("p", "line", capital(line))
}

function sentence(plain_text, class) { if (plain_text != "") print tag("p", class, capital(plain_text)) }

# An element with text in it, or nothing.
function tag(name, class, plain_text) {
    if (plain_text == "") return ""
    return "<" name (class == "" ? "" : " class=\"" class "\"") ">" html(plain_text) "</" name ">"
}

function html(plain_text) {
    return replaced(replaced(replaced(replaced(plain_text, "&", "&amp;"), "<", "&lt;"), ">", "&gt;"), "\"", "&quot;")
}
