"""Which links in /etc/rc.d start a service, as `/etc/init.d/NAME enable` makes them (base-files, etc/rc.common)."""

from __future__ import annotations

import re

_RC_COMMON = re.compile(r"#! ?/bin/sh +/etc/rc\.common\b")
_ORDER = re.compile(r"^[ \t]*(START|STOP)=[\"']?([^\s\"'#;]*)", re.MULTILINE)


def is_service(script: str) -> bool:
    """Whether a file of /etc/init.d is one that rc.common runs."""
    return _RC_COMMON.match(script) is not None


def service_links(name: str, script: str) -> dict[str, str] | None:
    """The links that enable the service `name`: path in the root → target.

    None when the script computes its place in the order, so that only running it would tell.
    """
    order = dict(_ORDER.findall(script))
    if any(not re.fullmatch(r"[0-9]*", number) for number in order.values()):
        return None
    letters = {"START": "S", "STOP": "K"}
    links = {}
    for which, number in sorted(order.items()):
        if number:
            bare = re.sub(rf"^{letters[which]}[0-9][0-9]", "", name)
            links[f"etc/rc.d/{letters[which]}{number}{bare}"] = f"../init.d/{name}"
    return links
