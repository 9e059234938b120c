import pytest

from livebuilder.openwrt.accounts import Accounts

BEFORE = Accounts(
    passwd="root:x:0:0:root:/root:/bin/ash\n", group="root:x:0:\nadm:x:4:root\n", shadow="root:::0:99999:7:::\n"
)
DNSMASQ = "dnsmasq:x:453:453:dnsmasq:/var/run/dnsmasq:/bin/false\n"


@pytest.mark.parametrize(
    ("field", "passwd", "group"),
    [
        ("", "", ""),
        ("dnsmasq=453:dnsmasq=453", DNSMASQ, "dnsmasq:x:453:dnsmasq\n"),
        ("dnsmasq=453:dnsmasq=453:", DNSMASQ, "dnsmasq:x:453:dnsmasq\n"),
        ("alone", "alone:x:32768:32768:alone:/var/run/alone:/bin/false\n", ""),
        (
            "one:many two:many",
            "one:x:32768:32768:one:/var/run/one:/bin/false\ntwo:x:32769:32768:two:/var/run/two:/bin/false\n",
            "many:x:32768:one,two\n",
        ),
        ("root:new=9", "", "new:x:9:root\n"),
        ("a=7:b=8:c=9,d", "a:x:7:8:a:/var/run/a:/bin/false\n", "b:x:8:a\nc:x:9:a\nd:x:32768:a\n"),
        (":lonely=5", "", "lonely:x:5:\n"),
        ("a=x:b=../", "a:x:32768:32768:a:/var/run/a:/bin/false\n", "b:x:32768:a\n"),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_added(field: str, passwd: str, group: str) -> None:
    after = BEFORE.with_required(field)
    assert after.passwd == BEFORE.passwd + passwd
    assert after.group == BEFORE.group + group
    users = [line.split(":")[0] for line in passwd.splitlines()]
    assert after.shadow == BEFORE.shadow + "".join(f"{user}:x:0:0:99999:7:::\n" for user in users)
    assert after.with_required(field) == after, "a second time changes nothing"


def test_a_user_becomes_a_member_of_groups_that_are_there() -> None:
    after = BEFORE.with_required("a=7:adm:root")
    assert after.group == "root:x:0:a\nadm:x:4:root,a\n"
    assert after.passwd.endswith("a:x:7:4:a:/var/run/a:/bin/false\n")


def test_a_last_line_without_an_end() -> None:
    assert Accounts("root:x:0:0", "root:x:0:", "").with_required("a=7:b=8").passwd.splitlines()[0] == "root:x:0:0"
