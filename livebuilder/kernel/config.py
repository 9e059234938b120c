"""A kernel's configuration: its options, and which of them links in what would otherwise be a module."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)

# The option of a module is named like it, give or take these words (the kernel's Makefiles: obj-$(CONFIG_X) += x.o) …
_USUAL = ("CONFIG_{}", "CONFIG_{}_FS", "CONFIG_USB_{}", "CONFIG_USB_NET_{}")
# … but for these. tests/tools/test_debian_features.py asks the configuration of a real kernel.
_UNUSUAL = {
    "3c509": "CONFIG_EL3",
    "3c59x": "CONFIG_VORTEX",
    "8021q": "CONFIG_VLAN_8021Q",
    "ahci": "CONFIG_SATA_AHCI",
    "amd8111e": "CONFIG_AMD8111_ETH",
    "asix": "CONFIG_USB_NET_AX8817X",
    "atkbd": "CONFIG_KEYBOARD_ATKBD",
    "broadcom": "CONFIG_BROADCOM_PHY",
    "cdc_ether": "CONFIG_USB_NET_CDCETHER",
    "crc32_generic": "CONFIG_CRYPTO_CRC32",
    "crc32c_generic": "CONFIG_CRYPTO_CRC32C",
    "dmfe": "CONFIG_DM9102",
    "i6300esb": "CONFIG_I6300ESB_WDT",
    "i8042": "CONFIG_SERIO_I8042",
    "isofs": "CONFIG_ISO9660_FS",
    "loop": "CONFIG_BLK_DEV_LOOP",
    "ne": "CONFIG_NE2000",
    "nft_chain_nat": "CONFIG_NFT_NAT",
    "ohci_pci": "CONFIG_USB_OHCI_HCD_PCI",
    "pata_pdc202xx_old": "CONFIG_PATA_PDC_OLD",
    "pcwd_pci": "CONFIG_PCIPCWATCHDOG",
    "ppp_generic": "CONFIG_PPP",
    "pppox": "CONFIG_PPPOE",
    "r8152": "CONFIG_USB_RTL8152",
    "realtek": "CONFIG_REALTEK_PHY",
    "sd_mod": "CONFIG_BLK_DEV_SD",
    "sr_mod": "CONFIG_BLK_DEV_SR",
    "tg3": "CONFIG_TIGON3",
    "usbhid": "CONFIG_USB_HID",
    "wdt_pci": "CONFIG_WDTPCI",
}


def parse_config(text: str) -> dict[str, str]:
    """The options of a kernel configuration file that are set: `CONFIG_LOOP` is `y` or `m`, others have their value."""
    return dict(_LINE.findall(text))


def setting_of(module: str, config: Mapping[str, str]) -> str | None:
    """`y` when the module (its name, with `_`) is linked into a kernel of this configuration, `m` when it is loadable.

    None when it was not built, or its option has a name nobody would guess.
    """
    options = [_UNUSUAL[module]] if module in _UNUSUAL else [usual.format(module.upper()) for usual in _USUAL]
    return next((config[option] for option in options if config.get(option) in ("y", "m")), None)
