"""The picture of the status page in docs/router.md: a router at work between two neighbours, and its page in a browser.

python -m scripts.statuspage FOLDER_OF_A_BUILD PICTURE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from livebuilder.inspection import read_system
from livebuilder.sizes import MIB
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Stick, machine_named
from livebuilder.vm.peers import Peer, neighbourhood
from livebuilder.vm.routing import ROUTER_NAME, wait_for_lease
from tests.support.boots import booting, observe
from tests.support.browser import browser
from tests.support.builds import BuiltImage
from tests.support.sticks import stick_image

_STYLE = Path(__file__).parents[1] / "initramfs/router/www/style.css"
_LINK = '<link rel="stylesheet" href="/style.css">'
_PC = "pc-2000"
# Other devices that ask for an address, with the client's card; at last it is the client's own again.
_DEVICES = {"laptop": "00:1f:3b:9a:41:07", "printer": "00:80:77:31:a9:4e", "client": "52:54:00:00:02:02"}
_ASK = (
    "ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up;"
    " udhcpc -i eth0 -n -q -x hostname:{name} -s /bin/true 2>/dev/null"
)


def page_of_a_router(image: BuiltImage, work: Path) -> str:
    """What its client reads, the style put in."""
    stick = Stick(stick_image(work / "stick.img"))
    with (
        neighbourhood(*read_system(image.iso), machine=machine_named(_PC), logs=work, accelerator=TCG) as beside,
        booting(
            image, log=work / "log", memory_bytes=128 * MIB, sticks=[stick], cards=(beside.lan, beside.wan)
        ) as session,
    ):  # fmt: skip
        beside.provide()
        client, router = beside.connect(), Peer(session, observe(session)[1])
        router.run("router set hostname attic; until grep -qx state=up /tmp/run/router/wan; do sleep 1; done")
        wait_for_lease(client, beginning="192.168.1.")
        for name, mac in _DEVICES.items():
            client.run(_ASK.format(name=name, mac=mac))
        page = client.run(f"wget -q -O - http://{ROUTER_NAME}/")
    assert _LINK in page
    return page.replace(_LINK, f"<style>{_STYLE.read_text()}</style>")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="livebuilder-pictures-") as name, browser() as chromium:
        page = Path(name, "page.html")
        page.write_text(page_of_a_router(BuiltImage(Path(sys.argv[1])), Path(name)))
        chromium.open(page.as_uri(), width=900, height=700)
        chromium.screenshot(Path(sys.argv[2]))
