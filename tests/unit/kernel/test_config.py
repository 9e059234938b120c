"""The configuration of a kernel, and the options of its modules."""

import pytest

from livebuilder.kernel.config import parse_config, setting_of


def test_options_that_are_set() -> None:
    text = '# CONFIG_OFF is not set\nCONFIG_LOOP=y\nCONFIG_NAME="a=b"\nnonsense\nCONFIG_SIZE=0x10\n'
    assert parse_config(text) == {"CONFIG_LOOP": "y", "CONFIG_NAME": '"a=b"', "CONFIG_SIZE": "0x10"}


@pytest.mark.parametrize(
    ("module", "option"),
    [
        ("loop", "CONFIG_BLK_DEV_LOOP"),
        ("ext4", "CONFIG_EXT4_FS"),
        ("usb_storage", "CONFIG_USB_STORAGE"),
        ("ehci_hcd", "CONFIG_USB_EHCI_HCD"),
        ("smsc95xx", "CONFIG_USB_NET_SMSC95XX"),
        ("8139too", "CONFIG_8139TOO"),
    ],
)
@pytest.mark.parametrize("setting", ["y", "m"])
def test_the_setting_of_a_module(module: str, option: str, setting: str) -> None:
    assert setting_of(module, {option: setting, "CONFIG_OTHER": "n"}) == setting
    assert setting_of(module, {f"{option}S": setting}) is None


def test_an_option_that_is_no_switch() -> None:
    assert setting_of("log_buf_shift", {"CONFIG_LOG_BUF_SHIFT": "17"}) is None
