"""initramfs/lib/text.sh: bytes that nobody promised to be text, as JSON, on a console, as a word to type."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.init import InitMachine

_LABELS = (
    "rootfs_data", "my stick", 'say "hi"', "back\\slash", "tab\there", "line\nbreak", "\x01\x1f\x7f", "Gerät", "数据",
    "😀 stick", "trailing ", "'quoted'", "$HOME `id` ;rm", "%s%d", "\\0101 \\n", "é\x80", "",
)  # fmt: skip


@pytest.mark.parametrize("label", _LABELS)
def test_a_label_becomes_a_json_string(machine: InitMachine, label: str) -> None:
    done = machine.call('json_from_hex "$1"; printf "%s" "$JSON"', label.encode().hex())
    assert json.loads(done.stdout_bytes.decode()) == label


def test_text_becomes_a_json_string(machine: InitMachine) -> None:
    script = 'for text; do json_string "$text"; printf "%s\\n" "$JSON"; done'
    done = machine.call(script, *_LABELS)
    assert [json.loads(line) for line in done.stdout.splitlines()] == list(_LABELS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=24), min_size=8, max_size=16))
def test_any_bytes_become_json_with_replacements_where_python_puts_them(
    machine: InitMachine, labels: list[bytes]
) -> None:
    script = 'for hex; do json_from_hex "$hex"; printf "%s\\n" "$JSON"; done'
    done = machine.call(script, *(label.hex() for label in labels))
    for label, line in zip(labels, done.stdout_bytes.decode().splitlines(), strict=True):
        # Python may replace several stray bytes with one mark; which bytes are good text must be the same.
        expected = label.decode(errors="replace").replace("\ufffd", "")
        assert json.loads(line).replace("\ufffd", "") == expected


def test_a_console_gets_no_control_characters(machine: InitMachine) -> None:
    done = machine.call('characters_from_hex "$1" plain; printf "%s" "$TEXT"', b"a\x1b[2J\xffb\n\xc3\xa4 ".hex())
    assert done.stdout == "a?[2J?b?ä "


@pytest.mark.parametrize("label", ["rootfs_data", "Gerät", "数据 😀", "", "a" * 40])
def test_f2fs_labels_are_utf_16(machine: InitMachine, label: str) -> None:
    stored = label.encode("utf-16-le") + b"\0\0garbage!"
    done = machine.call('hex_from_utf16 "$1"; printf "%s" "$HEX"', stored.hex())
    assert bytes.fromhex(done.stdout).decode() == label


def test_half_a_surrogate_pair_is_replaced(machine: InitMachine) -> None:
    stored = b"\x3d\xd8" + "a".encode("utf-16-le") + b"\x00\xde" + b"\x3d\xd8"
    done = machine.call('hex_from_utf16 "$1"; printf "%s" "$HEX"', stored.hex())
    assert bytes.fromhex(done.stdout).decode() == "\ufffda\ufffd\ufffd"


def test_a_word_to_type_means_the_text(machine: InitMachine) -> None:
    texts = [text for text in _LABELS if "\n" not in text]
    done = machine.call('for text; do shell_word "$text"; printf "%s\\n" "$WORD"; done', *texts)
    assert [shlex.split(line) for line in done.stdout.splitlines()] == [[text] for text in texts]


def test_hex_is_made_small_only_where_it_spells_a_capital(machine: InitMachine) -> None:
    every = bytes(range(32, 127))
    done = machine.call('hex_lower "$1"; printf "%s" "$HEX"', every.hex())
    assert bytes.fromhex(done.stdout) == every.lower()
