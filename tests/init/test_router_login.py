"""initramfs/router/lib/router/login: the question for a password, on consoles only."""

from __future__ import annotations

import pytest

from tests.support.router import Router

_QUESTION = "root has no password. Set one now? "
_LOGIN = "/bin/login -f root"
_ASKED = "etc/livebuilder/password-asked"


def login(router: Router, typed: str) -> str:
    return router.sh(["-c", 'printf "$1" | . "$ROOT/lib/router/login"', "login", typed]).stdout


def test_enter_skips_it_for_good(router: Router) -> None:
    assert login(router, "\\n").count(_QUESTION) == 1
    assert router.commands == [_LOGIN]
    assert (router.root / _ASKED).exists()
    assert login(router, "") == ""
    assert router.commands == [_LOGIN, _LOGIN]


def test_a_password_is_set_by_passwd(router: Router) -> None:
    recorder = router.root.parent / "recorder"
    hashed = "root:$5$salt$hash:0:::::"
    recorder.write_text(
        f'#!/bin/sh\necho "$*" >>"$RECORD"\n[ "$1" != passwd ] || echo \'{hashed}\' >"$ROOT/etc/shadow"\n'
    )
    recorder.chmod(0o755)
    assert login(router, "y\\n").count(_QUESTION) == 1
    assert [command.replace(f"{router.root}/", "/") for command in router.commands] == [
        "passwd root", "/etc/init.d/dropbear restart", _LOGIN,
    ]  # fmt: skip
    assert not (router.root / _ASKED).exists()


def test_who_mistypes_is_asked_again(router: Router) -> None:
    router.failing = "passwd*"
    assert login(router, "yes\\n\\n").count(_QUESTION) == 2
    assert router.commands == ["passwd root", _LOGIN]


def test_a_line_that_ends_is_no_answer(router: Router) -> None:
    assert login(router, "").count(_QUESTION) == 1
    assert router.commands == [_LOGIN]
    assert not (router.root / _ASKED).exists()


def test_who_has_a_password_is_not_asked(router: Router) -> None:
    router.write("etc/shadow", "root:$5$salt$hash:0:0:99999:7:::\n")
    assert login(router, "") == ""
    assert router.commands == [_LOGIN]


@pytest.mark.parametrize("broken", ["lib/functions.sh", "lib/router/password.sh"])
def test_whatever_is_broken_there_is_a_shell(router: Router, broken: str) -> None:
    (router.root / broken).unlink()
    login(router, "\\n")
    assert router.commands == [_LOGIN]


def test_every_console_comes_this_way_and_nobody_else(router: Router) -> None:
    asking = [line for line in router.read("etc/inittab").splitlines() if "askfirst" in line]
    assert len(asking) == 2 and all(line.endswith(":askfirst:/lib/router/login") for line in asking)
    assert "password-asked" not in router.read("etc/profile"), "over ssh nobody is asked"
