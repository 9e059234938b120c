import pytest

from livebuilder.openwrt.services import is_service, service_links

HEAD = "#!/bin/sh /etc/rc.common\n"


@pytest.mark.parametrize(
    ("script", "links"),
    [
        ("START=95\n", {"S95thing"}),
        ("USE_PROCD=1\nSTART=11\nSTOP=89\n", {"S11thing", "K89thing"}),
        ("START='09' # early\n\tSTOP=\"10\"\n", {"S09thing", "K10thing"}),
        ("START=10\nSTART=20\n", {"S20thing"}),
        ("START=\nstart() { :; }\n", set()),
        ("# START=50\nRESTART=1\n", set()),
    ],
)
def test_links(script: str, links: set[str]) -> None:
    assert service_links("thing", HEAD + script) == {f"etc/rc.d/{name}": "../init.d/thing" for name in links}


def test_a_name_with_its_number_in_it() -> None:
    assert service_links("S50telnet", HEAD + "START=50\n") == {"etc/rc.d/S50telnet": "../init.d/S50telnet"}


def test_a_place_that_only_running_tells() -> None:
    assert service_links("thing", HEAD + "START=$((MIN + 5))\n") is None


@pytest.mark.parametrize(
    ("script", "is_one"),
    [
        (HEAD, True), ("#! /bin/sh /etc/rc.common\n", True), ("#!/bin/sh\n# /etc/rc.common\n", False), ("", False),
        ("#!/bin/sh /etc/rc.commons\n", False), (" " + HEAD, False),
    ],
)  # fmt: skip
def test_what_is_a_service(script: str, is_one: bool) -> None:
    assert is_service(script) is is_one
