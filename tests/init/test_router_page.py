"""The status page as a browser shows it: the router's own busybox httpd and CGI, and a real Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browser
from tests.support.router import SHELLS, Router
from tests.support.status import HOSTILE, make_running_router, write_facts, write_record


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


PHONE, DESK = (360, 740), (1000, 760)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def router(tmp_path: Path) -> Router:
    router = make_running_router(tmp_path, "busybox ash")
    write_facts(router, "lan", address="127.0.0.1", prefix="24", ports="eth1 eth2", moved_from="", reason="")
    return router


@pytest.fixture
def address(router: Router) -> Iterator[str]:
    """Where busybox serves the page, as its service starts it but for the port and the user."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    router.service("httpd", "start")
    (command,) = router.commands
    words = command.split(" -- ")[1].replace("127.0.0.1:80", f"127.0.0.1:{port}").replace(" -u nobody", "").split()
    words[words.index("-h") + 1] = str(router.root / "www")
    environment = {**os.environ, **router.environment, "ROOT": str(router.root)}
    with subprocess.Popen(["busybox", "httpd", *words], env=environment) as server:
        while not answers(port):
            assert server.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
        server.kill()


def shown(chromium: Browser, what: str) -> str:
    """The text of an element as it is laid out."""
    return str(chromium.evaluate(f"document.querySelector({what!r}).innerText"))


def background(chromium: Browser, what: str) -> tuple[int, int, int]:
    red, green, blue = chromium.evaluate(
        f"getComputedStyle(document.querySelector({what!r})).backgroundColor.match(/\\d+/g).map(Number)"
    )
    return red, green, blue


@pytest.mark.parametrize(("width", "height"), [PHONE, DESK])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_readable_on_every_screen(
    address: str, chromium: Browser, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    chromium.open(address, width=width, height=height, dark=dark)
    assert chromium.requests == [address, f"{address}style.css"]
    assert chromium.evaluate("document.title") == "attic-pc - router"
    assert shown(chromium, "#settings .line") == "Settings are kept on /dev/sda1 (rootfs_data)"
    assert "Up, 203.0.113.17/24 by DHCP" in shown(chromium, "#wan")
    rows = chromium.evaluate("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
    assert [row[:3] for row in rows] == [
        ["laptop", "192.168.1.100", "00:0d:b9:12:34:56"], ["(no name)", "192.168.1.101", "00:0d:b9:12:34:57"],
        [HOSTILE, "192.168.1.102", "00:0d:b9:12:34:58"], ["printer", "192.168.1.20", "00:0d:b9:12:34:59"],
    ]  # fmt: skip
    assert chromium.evaluate("document.scripts.length + document.images.length") == 0
    red, green, blue = background(chromium, "#settings")
    assert green > red and green > blue, "green"
    assert (sum(background(chromium, "body")) < 3 * 64) is dark
    assert chromium.evaluate("document.documentElement.scrollWidth") == width, "nothing to scroll sideways"
    chromium.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG") and (
        tmp_path / "page.png"
    ).stat().st_size > 20_000


def test_a_stick_that_is_gone_is_red_and_said(router: Router, address: str, chromium: Browser) -> None:
    chromium.open(address, width=360, height=740)
    (router.root / "sys/class/block/sda1/dev").unlink()
    chromium.open(address, width=360, height=740)
    assert shown(chromium, "#settings .line") == "CHANGES ARE NO LONGER KEPT"
    assert "/dev/sda1 was there at boot and is gone" in shown(chromium, "#settings")
    red, green, blue = background(chromium, "#settings")
    assert red > 2 * green and red > 2 * blue


def test_the_longest_names_still_fit_a_phone(router: Router, address: str, chromium: Browser) -> None:
    write_record(router, label="x" * 255, device="/dev/" + "y" * 200)
    router.write("proc/sys/kernel/hostname", "h" * 63 + "\n")
    write_facts(router, "wan", state="down", reason="z" * 255, mac="00:11:22:33:44:55", driver="d" * 60, chosen="guess")
    router.write("etc/livebuilder/dhcp.leases", f"0 00:0d:b9:12:34:59 255.255.255.255 {'n' * 255} *\n")
    chromium.open(address, width=360, height=740)
    assert chromium.evaluate("document.documentElement.scrollWidth") == 360


def test_a_name_from_elsewhere_gets_nothing(address: str, chromium: Browser) -> None:
    chromium.open(address.replace("127.0.0.1", "localhost"), width=360, height=740)
    assert chromium.evaluate("document.body.innerText").startswith("This router answers to http://127.0.0.1/")


@pytest.fixture(params=SHELLS)
def any_shell(tmp_path: Path, request: pytest.FixtureRequest) -> Router:
    return make_running_router(tmp_path, request.param)


def test_the_service_listens_where_the_lan_is_and_as_nobody(any_shell: Router) -> None:
    any_shell.service("httpd", "boot")
    assert any_shell.commands == [
        "start-stop-daemon -S -q -b -m -p /tmp/run/httpd.pid -x httpd -- -f -u nobody -h /www -p 192.168.1.1:80"
    ]


def test_without_a_lan_it_waits_for_one(any_shell: Router) -> None:
    (any_shell.root / "tmp/run/router/lan").unlink()
    assert any_shell.service("httpd", "boot").returncode == 0 and any_shell.commands == []


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        ("ifup lan br-lan", ["/etc/init.d/httpd restart"]),
        ("ifupdate lan br-lan", ["/etc/init.d/httpd restart"]),
        ("ifdown lan br-lan", ["/etc/init.d/httpd stop"]),
        ("ifup wan wan", []),
    ],
)
def test_it_moves_with_the_lan(any_shell: Router, event: str, commands: list[str]) -> None:
    any_shell.snippet(f'. "$ROOT/lib/router/events.sh"; iface_event {event}')
    assert [command for command in any_shell.commands if "httpd" in command] == commands
