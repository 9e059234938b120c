import re

import pytest

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.iso.menu import (
    CONFIG_PATH,
    SCREENS,
    BootMenu,
    SerialLine,
    boot_files,
    menu_for,
    render_isolinux_cfg,
    render_screen,
)
from livebuilder.iso.report import files_named

LONGEST = menu_for("n" * 32, version="10.11.12", storage_label="L" * 16, timeout_seconds=300)


def menu(**changes: object) -> BootMenu:
    return menu_for("attic-pc", **{"version": "0.1.0", "storage_label": "rootfs_data", **changes})  # type: ignore[arg-type]


def appends(menu: BootMenu) -> dict[str, str]:
    return {entry.label: entry.append for entry in menu.entries}


def stanzas(config: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for block in config.split("\nLABEL ")[1:]:
        label, *lines = block.splitlines()
        found[label] = dict(line.split(maxsplit=1) for line in lines if line)
    return found


def halves(screen: str) -> tuple[str, str]:
    """What a serial line and what a screen shows of a text, colours and codes taken out."""
    match = re.fullmatch("\x14(.*)\x13(.*)\x17", screen, re.DOTALL)
    assert match
    return match[1].replace("\x1b[80D\n", "\n"), re.sub("\x0f[0-9a-f]{2}|\x0c", "", match[2])


def test_the_entries_are_what_the_router_can_be_started_as() -> None:
    consoles = "console=tty0 console=ttyS0,115200n8"
    assert appends(menu()) == {
        "start": f"{consoles} loglevel=4",
        "nostick": f"{consoles} loglevel=4 lb.storage=off",
        "rescue": f"{consoles} loglevel=7 lb.rescue",
        "serial": "console=ttyS0,115200n8 loglevel=4",
        "failsafe": f"{consoles} loglevel=4 lb.failsafe",
        "reset": f"{consoles} loglevel=4 lb.reset",
    }


def test_consoles_keep_their_order_and_the_users_words_come_after_ours() -> None:
    found = appends(menu(consoles=("ttyS1,9600", "tty0"), cmdline=" mitigations=off  loglevel=6 "))
    assert found["start"] == "console=ttyS1,9600 console=tty0 loglevel=4 mitigations=off loglevel=6"
    assert found["serial"] == "console=ttyS1,9600 loglevel=4 mitigations=off loglevel=6"
    assert found["rescue"].endswith("mitigations=off loglevel=6 lb.rescue")


def test_no_root_is_named() -> None:
    assert "root=" not in render_isolinux_cfg(menu())


def test_the_configuration_says_it_all_once() -> None:
    config = render_isolinux_cfg(menu(timeout_seconds=3))
    directives = [line.split()[0] for line in config.split("\nLABEL")[0].splitlines() if not line.startswith("#")]
    assert directives[0] == "SERIAL", "ISOLINUX wants it before everything else"
    assert "SERIAL 0 115200\n" in config
    assert "DEFAULT start\nPROMPT 1\nTIMEOUT 30\n" in config
    assert "TOTALTIMEOUT 3000\n" in config, "noise on a serial line must not stop a router for ever"


def test_an_entry_answers_to_its_number_and_to_its_name() -> None:
    found = stanzas(render_isolinux_cfg(menu()))
    assert list(found) == [name for pair in zip(appends(menu()), "123456", strict=True) for name in pair]
    assert found["2"] == found["nostick"]
    assert found["2"]["APPEND"] == appends(menu())["nostick"]


def test_every_entry_loads_the_kernel_and_the_initramfs_it_is_told() -> None:
    found = stanzas(render_isolinux_cfg(menu(), kernel="boot/linux", initramfs="/boot/first"))
    assert {(entry["KERNEL"], entry["INITRD"]) for entry in found.values()} == {("/boot/linux", "/boot/first")}


def test_waiting_for_ever_is_waiting_for_ever() -> None:
    config = render_isolinux_cfg(menu(timeout_seconds=0))
    assert "\nTIMEOUT 0\n" in config
    assert "\nTOTALTIMEOUT 0\n" in config
    serial, screen = halves(render_screen(menu(timeout_seconds=0), "menu.msg"))
    assert "Enter alone starts 1." in serial
    assert "second" not in screen


@pytest.mark.parametrize(("seconds", "text"), [(1, "in 1 second;"), (3, "in 3 seconds;")])
def test_the_menu_says_how_long_it_waits(seconds: int, text: str) -> None:
    assert text in halves(render_screen(menu(timeout_seconds=seconds), "menu.msg"))[0]


@pytest.mark.parametrize(
    ("consoles", "serial"),
    [
        (("tty0", "ttyS0,115200n8"), SerialLine(0, 115200)),
        (("ttyS1,19200", "ttyS0"), SerialLine(1, 19200)),
        (("ttyS2",), SerialLine(2, 9600)),
        (("ttyS4,9600",), None),  # the BIOS knows four
        (("tty0",), None),
    ],
)
def test_the_menu_is_on_the_first_serial_console(consoles: tuple[str, ...], serial: SerialLine | None) -> None:
    found = menu(consoles=consoles)
    assert found.serial == serial
    assert ("SERIAL" in render_isolinux_cfg(found)) == (serial is not None)


def test_without_a_serial_console_the_serial_entry_makes_one() -> None:
    assert appends(menu(consoles=("tty0",)))["serial"].startswith("console=ttyS0,115200n8 ")


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_fits_a_screen(name: str) -> None:
    for half in halves(render_screen(LONGEST, name)):
        lines = half.split("\n")
        assert max(map(len, lines)) < 80, "a character in the last column breaks the line"
        assert len(lines) <= 24, "with the prompt below it"


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_says_the_same_on_a_serial_line_without_any_colour(name: str) -> None:
    serial, screen = halves(render_screen(menu(), name))
    assert serial.split() == screen.split()
    assert all(" " <= character <= "~" or character == "\n" for character in serial)


def test_the_menu_names_the_router_its_version_every_entry_and_the_stick() -> None:
    _, screen = halves(render_screen(menu(), "menu.msg"))
    for text in ("attic-pc", "livebuilder 0.1.0", "rootfs_data", "F1 help", *(e.title for e in menu().entries)):
        assert text in screen


def test_the_help_names_every_way_to_call_an_entry() -> None:
    screen = halves(render_screen(menu(), "help.msg"))[1]
    for number, entry in enumerate(menu().entries, start=1):
        assert re.search(rf"{number} or {entry.label} +{re.escape(entry.title)}\n", screen)


def test_every_parameter_of_init_is_explained() -> None:
    screen = halves(render_screen(menu(), "params.msg"))[1]
    known = re.search("^KNOWN_PARAMETERS='(.*)'$", asset("initramfs/lib/parameters.sh").read_text(), re.MULTILINE)
    assert known
    for parameter in known[1].split():
        assert f"    {parameter} " in screen


def test_all_files_of_the_menu_are_there_and_named_by_it() -> None:
    files = boot_files(menu())
    assert set(files) == {CONFIG_PATH, *(f"isolinux/{name}" for name in SCREENS)}
    named = {name.lstrip("/") for name in files_named(files[CONFIG_PATH].decode())}
    assert named == set(files) - {CONFIG_PATH} | {"boot/vmlinuz", "boot/initramfs"}


def test_the_same_menu_gives_the_same_bytes() -> None:
    assert boot_files(menu()) == boot_files(menu())
    assert boot_files(menu()) != boot_files(menu(storage_label="other"))


def test_a_name_cannot_smuggle_codes_into_a_screen() -> None:
    found = menu_for("a\x0c\x0f4fbé$label", version="1", storage_label="x")
    assert found.title == "a??4fb?$label"
    assert "a??4fb?$label" in halves(render_screen(found, "menu.msg"))[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cmdline": "a\nLABEL evil"}, "plain ASCII"),
        ({"cmdline": "quiet=é"}, "plain ASCII"),
        ({"cmdline": "x" * 1800}, "characters too long"),
        ({"timeout_seconds": -1}, "cannot wait -1 seconds"),
        ({"consoles": ("ttySX",)}, "not a serial console"),
    ],
)
def test_what_cannot_stand_in_a_configuration_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(LivebuilderError, match=said):
        menu(**changes)
