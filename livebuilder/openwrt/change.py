"""What is done to an OpenWrt root on its way onto the disc: each kind has a name, by which a profile can forbid it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from livebuilder.tree import RootTree


class ChangeKind(StrEnum):
    """The words of the profile's `[openwrt] keep`."""

    OWNERS = "owners"
    MODES = "modes"
    DEVICES = "devices"
    MODULES = "modules"
    FIREWALL = "firewall"
    FSTAB = "fstab"
    PREINIT = "preinit"
    BANNER = "banner"


@dataclass(frozen=True)
class Change:
    """One thing that was done to the root, or is left to /init, in words."""

    kind: ChangeKind
    text: str

    def to_json(self) -> dict[str, str]:
        """As it stands in the plan and in the manifest."""
        return {key: str(value) for key, value in asdict(self).items()}


# A root as it is afterwards, and what was done to it; nothing when it was right already.
Changed = tuple[RootTree, tuple[Change, ...]]
