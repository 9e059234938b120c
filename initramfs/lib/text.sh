# shellcheck shell=sh
# Text that nobody promised to be text: labels come from disks and words from the command line, so they travel as hex
# and become a JSON string or a line fit for a console here.

# hex_of TEXT: HEX = its bytes in hex.
hex_of() { HEX=$(printf '%s' "$1" | hexdump -v -e '/1 "%02x"'); }

# take_byte: move the first byte of hex from $hex_rest to $hex_byte (two digits) and $hex_value (a number).
take_byte() {
    hex_byte=${hex_rest%"${hex_rest#??}"}
    hex_rest=${hex_rest#??}
    hex_value=$((0x$hex_byte))
}

# hex_until_nul HEX: HEX = the bytes before the first NUL.
hex_until_nul() {
    hex_rest=$1
    HEX=''
    while [ -n "$hex_rest" ]; do
        take_byte
        [ "$hex_value" -ne 0 ] || break
        HEX=$HEX$hex_byte
    done
}

# hex_without_blanks HEX: HEX without the spaces (20) that FAT pads its labels with.
hex_without_blanks() {
    HEX=$1
    while [ -n "$HEX" ] && [ "${HEX%20}" != "$HEX" ]; do HEX=${HEX%20}; done
}

# hex_lower HEX: HEX with ASCII capitals made small.
hex_lower() {
    hex_rest=$1
    HEX=''
    while [ -n "$hex_rest" ]; do
        take_byte
        case $hex_byte in
            4[1-9a-f] | 5[0-9a]) HEX=$HEX$((${hex_byte%?} + 2))${hex_byte#?} ;;
            *) HEX=$HEX$hex_byte ;;
        esac
    done
}

# hex_letters HEX: HEX in small letters without blanks, dots, dashes and underscores: what two labels that were meant to be
# the same have in common.
hex_letters() {
    hex_lower "$1"
    hex_rest=$HEX
    HEX=''
    while [ -n "$hex_rest" ]; do
        take_byte
        case $hex_byte in
            20 | 2d | 2e | 5f) ;;
            *) HEX=$HEX$hex_byte ;;
        esac
    done
}

# octal NUMBER: OCTAL = the byte as `printf %b` reads it.
octal() { OCTAL="\\0$(($1 / 64))$(($1 / 8 % 8))$(($1 % 8))"; }

# add_code_point NUMBER: its UTF-8 bytes, as numbers, to $utf8_bytes.
add_code_point() {
    if [ "$1" -lt 128 ]; then
        utf8_bytes="$utf8_bytes $1"
    elif [ "$1" -lt 2048 ]; then
        utf8_bytes="$utf8_bytes $((192 + $1 / 64)) $((128 + $1 % 64))"
    elif [ "$1" -lt 65536 ]; then
        utf8_bytes="$utf8_bytes $((224 + $1 / 4096)) $((128 + $1 / 64 % 64)) $((128 + $1 % 64))"
    else
        utf8_bytes="$utf8_bytes $((240 + $1 / 262144)) $((128 + $1 / 4096 % 64))"
        utf8_bytes="$utf8_bytes $((128 + $1 / 64 % 64)) $((128 + $1 % 64))"
    fi
}

# hex_from_utf16 HEX: HEX = UTF-8 of little-endian UTF-16 up to its first zero (an f2fs label); half a pair is U+FFFD.
hex_from_utf16() {
    hex_rest=$1
    utf8_bytes=''
    utf16_high=0
    while [ "${#hex_rest}" -ge 4 ]; do
        take_byte
        utf16_unit=$hex_value
        take_byte
        utf16_unit=$((utf16_unit + 256 * hex_value))
        [ "$utf16_unit" -ne 0 ] || break
        if [ "$utf16_unit" -ge 56320 ] && [ "$utf16_unit" -lt 57344 ] && [ "$utf16_high" -ne 0 ]; then
            add_code_point $((65536 + (utf16_high - 55296) * 1024 + utf16_unit - 56320))
            utf16_high=0
            continue
        fi
        [ "$utf16_high" -eq 0 ] || add_code_point 65533
        utf16_high=0
        if [ "$utf16_unit" -ge 55296 ] && [ "$utf16_unit" -lt 56320 ]; then
            utf16_high=$utf16_unit
        elif [ "$utf16_unit" -ge 56320 ] && [ "$utf16_unit" -lt 57344 ]; then
            add_code_point 65533
        else
            add_code_point "$utf16_unit"
        fi
    done
    [ "$utf16_high" -eq 0 ] || add_code_point 65533
    # shellcheck disable=SC2086 # a list of numbers
    HEX=${utf8_bytes:+$(printf '%02x' $utf8_bytes)}
}

# utf8_length: how many bytes the UTF-8 character beginning with $hex_byte has ($hex_rest follows); 0 = none.
utf8_length() {
    UTF8_LENGTH=0
    case $hex_byte$hex_rest in
        c[2-9a-f][89ab]* | d?[89ab]*) UTF8_LENGTH=2 ;;
        e0[ab]?[89ab]* | e[1-9abcef][89ab]?[89ab]* | ed[89]?[89ab]*) UTF8_LENGTH=3 ;;
        f0[9ab]?[89ab]?[89ab]* | f[123][89ab]?[89ab]?[89ab]* | f48?[89ab]?[89ab]*) UTF8_LENGTH=4 ;;
    esac
}

# characters_from_hex HEX json|plain: TEXT. Valid UTF-8 is kept; for JSON quotes, backslashes and control characters are
# escaped and stray bytes become U+FFFD (RFC 8259, 7); for a console both become a question mark.
characters_from_hex() {
    hex_rest=$1
    characters=''
    while [ -n "$hex_rest" ]; do
        take_byte
        if [ "$hex_value" -ge 128 ]; then
            utf8_length
            case $UTF8_LENGTH$2 in
                0json) characters="$characters\\0134ufffd" ;;
                0plain) characters="$characters?" ;;
                *)
                    octal "$hex_value"
                    characters=$characters$OCTAL
                    while [ "$UTF8_LENGTH" -gt 1 ]; do
                        take_byte
                        octal "$hex_value"
                        characters=$characters$OCTAL
                        UTF8_LENGTH=$((UTF8_LENGTH - 1))
                    done
                    ;;
            esac
            continue
        fi
        octal "$hex_value"
        case $2$hex_byte in
            json22 | json5c) characters="$characters\\0134$OCTAL" ;;
            json[01]? | json7f) characters="$characters\\0134u00$hex_byte" ;;
            plain[01]? | plain7f) characters="$characters?" ;;
            *) characters=$characters$OCTAL ;;
        esac
    done
    TEXT=$(printf '%b.' "$characters") # the dot keeps trailing blanks and newlines
    TEXT=${TEXT%.}
}

# json_from_hex HEX: JSON = a JSON string.
json_from_hex() {
    characters_from_hex "$1" json
    JSON="\"$TEXT\""
}

# json_string TEXT: JSON = a JSON string.
json_string() {
    case $1 in
        *[!A-Za-z0-9\ _./:,=+%\(\)-]*)
            hex_of "$1"
            json_from_hex "$HEX"
            ;;
        *) JSON="\"$1\"" ;;
    esac
}

# json_or_null TEXT: JSON = a JSON string, or null for nothing.
json_or_null() {
    if [ -n "$1" ]; then json_string "$1"; else JSON=null; fi
}

# shell_word TEXT: WORD = TEXT as a person must type it.
shell_word() {
    case $1 in
        *[!A-Za-z0-9_./:=+-]* | '')
            shell_rest=$1
            WORD=''
            while [ "${shell_rest#*\'}" != "$shell_rest" ]; do
                WORD="$WORD${shell_rest%%\'*}'\\''"
                shell_rest=${shell_rest#*\'}
            done
            WORD="'$WORD$shell_rest'"
            ;;
        *) WORD=$1 ;;
    esac
}
