# The boot record for people. Run as: LC_ALL=C awk -v view=banner|status|line -f record.awk
# (LC_ALL=C: text is handled byte by byte, the same in every awk.) lib/router/status.awk, behind it, has more views.
#
# The record is JSON (RFC 8259), read here by a small parser into value["storage.candidates.0.label"] and, for
# arrays, count["storage.candidates"]. Labels come from whatever was plugged in: nothing in them may reach a
# terminal as anything but letters.
#
# A record can be out of date: what happened to the stick since is looked up in ROOT/proc/mounts and ROOT/sys.

BEGIN {
    while ((getline line < (ENVIRON["ROOT"] "/etc/livebuilder/boot.json")) > 0) text = text line "\n"
    position = 1
    sound = parse("")
    skip_space()
    sound = sound && position > length(text) && ("storage.state" in value)
    judge()
    if (view == "line") print_line()
    else if (view == "status") print_status()
    else if (view == "banner") print_banner()
}

# --- JSON ---------------------------------------------------------------------------------------------------------

function skip_space() {
    while (substr(text, position, 1) ~ /^[ \t\r\n]$/) position++
}

function parse(path,    first, rest) {
    skip_space()
    if (++depth > 20) return 0
    first = substr(text, position, 1)
    if (first == "{") return leave(parse_object(path))
    if (first == "[") return leave(parse_array(path))
    if (first == "\"") {
        if (!parse_string()) return leave(0)
        value[path] = string
        return leave(1)
    }
    rest = substr(text, position, 40)
    if (!match(rest, /^(true|false|null|-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?)/)) return leave(0)
    if (substr(rest, 1, 4) != "null") value[path] = substr(rest, 1, RLENGTH)
    position += RLENGTH
    return leave(1)
}

function leave(result) {
    depth--
    return result
}

function take(character) {
    skip_space()
    if (substr(text, position, 1) != character) return 0
    position++
    skip_space()
    return 1
}

function parse_object(path,    key) {
    if (!take("{")) return 0
    if (take("}")) return 1
    for (;;) {
        if (!parse_string()) return 0
        key = (path == "" ? "" : path ".") string
        if (!take(":") || !parse(key)) return 0
        if (take("}")) return 1
        if (!take(",")) return 0
    }
}

function parse_array(path,    number) {
    count[path] = number = 0
    if (!take("[")) return 0
    if (take("]")) return 1
    for (;;) {
        if (!parse(path "." number)) return 0
        count[path] = ++number
        if (take("]")) return 1
        if (!take(",")) return 0
    }
}

# Sets string; the quote is at position.
function parse_string(    character, plain) {
    string = ""
    if (substr(text, position++, 1) != "\"") return 0
    while (position <= length(text)) {
        plain = substr(text, position, 256)
        if (match(plain, /^[^"\\]+/)) {
            string = string substr(plain, 1, RLENGTH)
            position += RLENGTH
            continue
        }
        character = substr(text, position++, 1)
        if (character == "\"") return 1
        character = substr(text, position++, 1)
        if (character == "u") {
            if (!parse_unicode()) return 0
        } else if (index("nrtbf", character)) string = string " "
        else if (index("\"\\/", character)) string = string character
        else return 0
    }
    return 0
}

# Four hex digits, as UTF-8; halves of a surrogate pair and control characters become question marks in clean().
function parse_unicode(    digits, number, i) {
    digits = tolower(substr(text, position, 4))
    if (digits !~ /^[0-9a-f][0-9a-f][0-9a-f][0-9a-f]$/) return 0
    position += 4
    number = 0
    for (i = 1; i <= 4; i++) number = 16 * number + index("0123456789abcdef", substr(digits, i, 1)) - 1
    if (number < 32 || (number >= 55296 && number < 57344)) string = string "?"
    else if (number < 128) string = string sprintf("%c", number)
    else if (number < 2048) string = string sprintf("%c%c", 192 + int(number / 64), 128 + number % 64)
    else string = string sprintf("%c%c%c", 224 + int(number / 4096), 128 + int(number / 64) % 64, 128 + number % 64)
    return 1
}

# --- what to say --------------------------------------------------------------------------------------------------

# The value at a path (or what stands for it), fit for a terminal.
function get(path, otherwise) { return path in value ? clean(value[path]) : otherwise }

# Control characters, C1 ones in UTF-8 too, and bytes that are no UTF-8 become question marks.
function clean(dirty,    rest) {
    gsub(/[\001-\037\177]/, "?", dirty)
    gsub(/\302[\200-\237]/, "?", dirty)
    rest = dirty
    gsub(/[\302-\337][\200-\277]|[\340-\357][\200-\277][\200-\277]|[\360-\364][\200-\277][\200-\277][\200-\277]/, "", rest)
    if (rest ~ /[\200-\377]/) gsub(/[\200-\377]/, "?", dirty)
    return dirty
}

# Sets state, reason and failsafe: what the record says, corrected by what has happened since.
function judge(    line, field, options, device) {
    state = sound ? get("storage.state", "unknown") : "unknown"
    reason = sound ? get("storage.reason", "") : "the boot record /etc/livebuilder/boot.json is missing or damaged"
    failsafe = sound && get("failsafe", "") == "true"
    if (state != "persistent") return
    while ((getline line < (ENVIRON["ROOT"] "/proc/mounts")) > 0) {
        split(line, field, " ")
        if (field[2] == "/overlay") options = "," field[4] ","
    }
    device = value["storage.device"]
    sub(/.*\//, "", device)
    if ((getline line < (ENVIRON["ROOT"] "/sys/class/block/" device "/dev")) <= 0)
        lost(get("storage.device", "the stick") " was there at boot and is gone")
    else if (options !~ /,rw,/)
        lost(get("storage.device", "the stick") " can no longer be written (see: dmesg)")
}

function lost(why) {
    state = "lost"
    reason = why
}

function where() {
    return get("storage.device", "a stick") " (" get("storage.label", "no label") ("storage.by_mac" in value ? ", by-mac/" get("storage.by_mac") : "") ")"
}

function headline() {
    if (failsafe) return "FAILSAFE MODE: CHANGES ARE NOT KEPT"
    if (state == "persistent") return "settings are kept on " where()
    if (state == "read-only") return "CHANGES ARE NOT KEPT: " where() " is read-only"
    if (state == "lost") return "CHANGES ARE NO LONGER KEPT"
    if (state == "volatile") return "CHANGES ARE NOT KEPT: this system runs from memory only"
    return "NOBODY KNOWS WHETHER CHANGES ARE KEPT"
}

function print_line() {
    print get("name", "livebuilder") ": " headline() (state != "persistent" && reason != "" ? ", " reason : "")
}

function print_banner(    title, rule) {
    printf "\n  %s\n  livebuilder %s, Linux %s\n\n", get("name", "livebuilder"), get("livebuilder", "?"), get("kernel", "?")
    title = headline()
    if (state == "persistent") {
        print "  " toupper(substr(title, 1, 1)) substr(title, 2) "."
        print_warnings()
        print ""
        return
    }
    rule = title
    gsub(/./, "*", rule)
    # Reverse video, where the terminal has it.
    printf "\033[7m\n  **%s**  \n  * %s *  \n  **%s**  \033[0m\n\n", rule, title, rule
    if (reason != "") print "  Why: " reason
    print_warnings()
    print_candidates()
    print "  All about it: lb-status\n"
}

# What went wrong and did not stop the boot: two sticks with the same label, a stick that is full.
function print_warnings(    i) {
    for (i = 0; i < count["warnings"] + 0; i++) print "  WARNING: " get("warnings." i, "")
}

function print_candidates(    i, path, total) {
    if (failsafe && "storage.device" in value) return
    total = count["storage.candidates"] + 0
    if (total || state == "volatile") print total ? "  Seen:" : "  Seen: no disk or stick at all"
    for (i = 0; i < total; i++) {
        path = "storage.candidates." i "."
        print "    " get(path "device", "?") "  " get(path "fstype", "no file system") "  label '" get(path "label", "") "'"
        print_cure(path "cure.")
    }
}

function print_cure(path,    command, program) {
    command = get(path "command", "")
    if (command == "") return
    print "      to " (get(path "erases", "") == "true" ? "ERASE it and " : "") "keep settings there: " command " && reboot"
    program = command
    sub(/ .*/, "", program)
    if (get(path "here", "") != "true") print "      (on another system: this one has no " program ")"
}

function fact(name, text) {
    if (text != "") printf "  %-12s%s\n", name, text
}

function amount(path, divisor, unit) { return path in value ? int(value[path] / divisor) " " unit : "" }

function listed(first, second, third) {
    if (first != "" && second != "") first = first ", "
    if (first second != "" && third != "") second = second ", "
    return first second third
}

function print_status(    i) {
    print get("name", "livebuilder") ": " headline()
    fact("state", state)
    fact("why", reason)
    fact("version", get("livebuilder", ""))
    fact("kernel", get("kernel", ""))
    fact("root", listed(get("root.mode", ""), get("root.device", "")))
    fact("", listed(amount("root.used_bytes", 1024, "KiB used"), amount("root.size_bytes", 1024, "KiB in all")))
    fact("", get("root.reason", ""))
    fact("memory", listed(amount("memory.total_kib", 1024, "MiB"), amount("memory.available_kib", 1024, "MiB free before the root")))
    fact("stick", listed(get("storage.device", ""), get("storage.fstype", ""), get("storage.label", "")))
    fact("", get("storage.uuid", ""))
    fact("by-mac", get("storage.by_mac", ""))
    fact("fsck", get("storage.fsck", ""))
    for (i = 0; i < count["parameters.unknown"] + 0; i++)
        fact("unknown", get("parameters.unknown." i, ""))
    print_warnings()
    print_candidates()
}
