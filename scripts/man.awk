# Markdown, as far as docs/commands.md uses it, into a page for man(1) (groff_man(7)).

function roff(text) {
    gsub(/\\/, "\\e", text)
    text = gensub_links(text)
    while (match(text, /`[^`]*`/))
        text = substr(text, 1, RSTART - 1) "\\fB" substr(text, RSTART + 1, RLENGTH - 2) "\\fR" substr(text, RSTART + RLENGTH)
    gsub(/\*\*/, "", text)
    gsub(/-/, "\\-", text)
    if (text ~ /^[.']/) text = "\\&" text
    return text
}

# [words](page) becomes words
function gensub_links(text,    inner) {
    while (match(text, /\[[^]]*\]\([^)]*\)/)) {
        inner = substr(text, RSTART + 1, index(substr(text, RSTART), "](") - 2)
        text = substr(text, 1, RSTART - 1) inner substr(text, RSTART + RLENGTH)
    }
    return text
}

function cells(line) {
    sub(/^\| */, "", line)
    sub(/ *\|$/, "", line)
    gsub(/\\\|/, "\001", line)
    count = split(line, cell, / *\| */)
    for (i = 1; i <= count; i++) gsub(/\001/, "|", cell[i])
}

BEGIN {
    printf ".TH LIVEBUILDER 1 \"\" \"livebuilder %s\" \"User Commands\"\n", version
    print ".SH NAME\nlivebuilder \\- turn an old PC into a router that boots from CD and keeps its settings on a USB stick"
    print ".SH SYNOPSIS\n.B livebuilder\n.RI [ options ] \" command \" [ arguments ]\n.SH DESCRIPTION"
}

/^```/ {
    code = !code
    print code ? ".PP\n.RS 4\n.nf" : ".fi\n.RE"
    next
}

code {
    print roff($0)
    next
}

/^# / { next }

/^##+ / {
    sub(/^#+ /, "")
    print ".SH \"" toupper(roff($0)) "\""
    next
}

/^\|.*\| meaning \|$/ || /^\|[-| ]+\|$/ { next }

/^\|/ {
    cells($0)
    print ".TP\n" roff(cell[1])
    print roff(cell[2])
    next
}

/^$/ {
    print ".PP"
    next
}

/^- / {
    sub(/^- /, "")
    print ".IP \\(bu 2\n" roff($0)
    next
}

{ print roff($0) }
