"""The profile: defaults, every key, every refusal, and all problems at once."""

import re
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError, UsageError
from livebuilder.image.settings import DhcpRange, RouterSettings
from livebuilder.openwrt.change import ChangeKind
from livebuilder.profile import Profile, ProfileError, read_profile

MANUAL = Path(__file__).parents[2] / "docs/profile.md"


def problems(*settings: str, path: Path | None = None) -> list[str]:
    with pytest.raises((ProfileError, UsageError)) as caught:
        read_profile(path, settings=settings)
    return caught.value.message.splitlines()


def test_the_built_in_profile_is_the_debian_router() -> None:
    profile = read_profile(None)
    assert (profile.name, profile.kernel.source, profile.kernel.flavour) == ("router", "debian", "686")
    assert profile.root.packages == ()
    assert "router" in profile.modules.features
    assert profile.root.init == "/etc/preinit"
    assert profile.root.free == 2 * 1024 * 1024
    assert profile.storage.label == "rootfs_data"
    assert profile.storage.settle == 15
    assert profile.boot.console == ("tty0", "ttyS0,115200n8")
    assert profile.output.max_size is None


def test_every_key_of_a_profile_is_read(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "root.tar").write_bytes(b"")
    (tmp_path / "vmlinuz").write_bytes(b"")
    (tmp_path / "busybox").write_bytes(b"")
    (tmp_path / "lib").mkdir()
    path = tmp_path / "attic.toml"
    path.write_text(
        """
name = "attic-pc"
[kernel]
image = "vmlinuz"
modules = "lib"
[root]
source = "archive"
path = "root.tar"
files = "files"
init = "/sbin/init"
mode = "tmpfs"
squashfs_block = "1M"
free = "4M"
[root.owners]
"/etc/secret" = "5:6"
[initramfs]
busybox = "busybox"
[modules]
features = ["nic"]
extra = ["tun"]
[storage]
label = "attic"
settle = 3
[boot]
console = ["ttyS1,9600"]
timeout = 0
cmdline = "acpi=off"
[output]
layout = "openwrt"
version = "24.10~rc1"
extra = "Attic_2"
compression = "gzip"
max_size = "20M"
"""
    )
    profile = read_profile(path)
    assert profile.model_dump() == {
        "name": "attic-pc",
        "kernel": {
            "source": "files",
            "flavour": "686",
            "image": str(tmp_path / "vmlinuz"),
            "modules": str(tmp_path / "lib"),
        },
        "root": {
            "source": "archive",
            "packages": (),
            "path": str(tmp_path / "root.tar"),
            "rootfs": None,
            "files": str(tmp_path / "files"),
            "owners": {"/etc/secret": "5:6"},
            "init": "/sbin/init",
            "mode": "tmpfs",
            "squashfs_block": 1024 * 1024,
            "free": 4 * 1024 * 1024,
        },
        "router": {
            "hostname": None,
            "timezone": "UTC0",
            "lan": "192.168.1.1/24",
            "wan": "auto",
            "dhcp_range": "100-249",
            "dns": (),
            "ssh_keys": (),
            "root_password_hash": None,
            "wifi": None,
        },
        "openwrt": {"keep": (), "feeds": (), "keys": (), "hash_only": False},
        "initramfs": {"busybox": str(tmp_path / "busybox")},
        "modules": {"features": ("nic",), "extra": ("tun",)},
        "storage": {"label": "attic", "settle": 3},
        "boot": {"console": ("ttyS1,9600",), "timeout": 0, "cmdline": "acpi=off"},
        "output": {
            "layout": "openwrt",
            "version": "24.10~rc1",
            "extra": "Attic_2",
            "compression": "gzip",
            "max_size": 20 * 1024 * 1024,
        },
    }


def documented_keys() -> set[str]:
    """What the tables of docs/profile.md name, with their sections."""
    keys, section = set(), ""
    for line in MANUAL.read_text().splitlines():
        if line.startswith("## "):
            section = "" if "`" not in line else line.strip("# `[]") + "."
        elif match := re.match(r"\| `(\w+)` \|", line):
            keys.add(section + match[1])
    return keys


def test_the_manual_has_every_key_and_no_other() -> None:
    keys = {
        f"{name}.{key}" if isinstance(section, dict) else name
        for name, section in Profile().model_dump().items()
        for key in (section if isinstance(section, dict) else [name])
    }
    assert documented_keys() == keys


def test_all_problems_are_told_at_once_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        'nam = "x"\n[kernel]\nsource = "debiann"\n[root]\npackges = ["a"]\nfree = "2Q"\n'
        '[root.owners]\n"srv" = "1:1"\n[modules]\nfeatures = ["nick"]\n'
        '[storage]\nlabel = "much-too-long-for-ext"\nsettle = "15"\n'
    )
    found = problems("boot.timeout=-1", path=path)
    assert all(line.startswith(f"{path}: ") for line in found)
    text = "\n".join(found)
    assert "nam: unknown key; did you mean name?" in text
    assert "root.packges: unknown key; did you mean root.packages?" in text
    assert "kernel.source: 'debiann' is not one of 'debian' or 'files'" in text
    assert "root.free: '2Q' is not a size" in text
    assert "storage.label: 'much-too-long-for-ext' has 21 bytes" in text
    assert "storage.settle: input should be a valid integer, got '15'" in text
    assert "boot.timeout" in text
    assert "modules.features: there is no feature 'nick'; did you mean nic?" in text
    assert "root.owners: has no files" in text
    assert "root.owners.srv" in text
    assert len(found) == 10


def test_a_mistake_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        '[root]\nsource = "directory"\npakages = ["a"]\nfiles = "nowhere"\n[kernel]\nimage = "~nobody-at-all/x"\n'
    )
    text = "\n".join(problems(path=path))
    assert "root.pakages: unknown key; did you mean root.packages?" in text
    assert 'root: source = "directory" needs path = "…"' in text
    assert f"root.files: there is no folder {tmp_path}/nowhere" in text
    assert "kernel.image: '~nobody-at-all/x' cannot be a path here" in text
    assert "kernel: needs both image" in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("name=Attic PC", "is not a name"),
        ("root.init=etc/preinit", "write an absolute path"),
        ("root.init=/../x", "write an absolute path"),
        ('root.packages=["Bad Name"]', "is not a Debian package name"),
        ("root.source=directory", 'needs path = "…"'),
        ("root.path=/", "which source"),
        ("root.source=openwrt", 'needs rootfs = "openwrt-…-rootfs.tar.gz"'),
        ("root.rootfs=/x", 'has a rootfs, which source = "debian" does not use'),
        ("root.rootfs=/nonexistent/*.gz", "root.rootfs: there is no file /nonexistent/*.gz"),
        ('openwrt.feeds=["/"]', 'source = "debian" gets nothing from feeds of OpenWrt'),
        ('openwrt.keys=["x"]', 'source = "debian" gets nothing from feeds of OpenWrt'),
        ("openwrt.hash_only=true", 'source = "debian" gets nothing from feeds of OpenWrt'),
        ('openwrt.keys=["/nonexistent/x.pub"]', "openwrt.keys: there is no file /nonexistent/x.pub"),
        ('openwrt.feeds=["/nonexistent/x"]', "openwrt.feeds: there is no folder /nonexistent/x"),
        ('openwrt.feeds=["ftp://example/x"]', "is not the address of a release"),
        ('openwrt.feeds=["src/gz https://example/x"]', "write src/gz NAME URL"),
        ('openwrt.feeds=["src/gz mine packages"]', "write src/gz NAME URL"),
        ("openwrt.hash_only=1", "should be a valid boolean"),
        ('openwrt.keep=["modes"]', 'source = "debian" changes nothing that could be kept'),
        ('openwrt.keep=["everything"]', "should be 'owners', 'modes'"),
        ('root.owners={"/x" = "root:root"}', "is not a numeric owner and group"),
        ("kernel.image=/boot/vmlinuz", "needs both image"),
        ("kernel.flavour=6 8 6", "is not a Debian kernel flavour"),
        ("storage.label=", "an ext label holds 1 to 16"),
        ("storage.label=a b", "characters other than"),
        ("storage.settle=601", "less than or equal to 600"),
        ("boot.console=[]", "at least 1 item"),
        ('boot.console=["lpt1"]', "is not a console"),
        ('boot.cmdline="a\\nb"', "is not one line of plain ASCII"),
        ("output.layout=nested", "is not one of 'flat' or 'openwrt'"),
        ("output.version=1/2", "is not a part of a name"),
        ("output.extra=../x", "is not a part of a name"),
        ("output.extra=" + 33 * "x", "is not a part of a name"),
        ("output.compression=lz4", "is not one of 'none', 'gzip', 'xz' or 'zstd'"),
        ("output.max_size=big", "'big' is not a size"),
        ("output.max_size=-5", "greater than or equal to 0"),
        ("root.packages=dropbear", "should be a list, got 'dropbear'"),
        ("kernel=debian", "kernel: should be a section, got 'debian'"),
        ("root.mode=ext4", "is not one of 'ext2', 'squashfs' or 'tmpfs'"),
        ("root.squashfs_block=2M", "a squashfs has blocks of 4K, 8K, 16K … up to 1M"),
        ("root.squashfs_block=2K", "a squashfs has blocks of"),
        ("root.squashfs_block=96K", "a squashfs has blocks of"),
        ("root.squashfs_block=0", "a squashfs has blocks of"),
        ('modules.features=["a/b"]', "is not a name of a feature"),
        ("root.files=/nonexistent/files", "root.files: there is no folder /nonexistent/files"),
        ("colour=blue", "unknown key"),
        ("name", "write KEY=VALUE"),
        ("name.first=x", "name: input should be a valid string"),
    ],
)
def test_a_bad_value_is_refused_by_name(setting: str, said: str) -> None:
    assert said in "\n".join(problems(setting))


def test_a_rootfs_may_be_a_pattern_for_one_file(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('[root]\nsource = "openwrt"\nrootfs = "openwrt-*-rootfs.tar.gz"\n')
    (tmp_path / "openwrt-23.05.5-rootfs.tar.gz").write_bytes(b"")
    profile = read_profile(tmp_path / "one.toml", settings=["openwrt.keep=['fstab']", "kernel.image=one.toml"])
    assert profile.root.rootfs == str(tmp_path / "openwrt-23.05.5-rootfs.tar.gz")
    assert profile.openwrt.keep == (ChangeKind.FSTAB,)
    assert (profile.kernel.source, profile.kernel.modules) == ("files", None), "the root has the modules"
    (tmp_path / "openwrt-24.10.0-rootfs.tar.gz").write_bytes(b"")
    (said,) = problems(path=tmp_path / "one.toml")
    assert "stands for 2 files (openwrt-23.05.5-rootfs.tar.gz, openwrt-24.10.0-rootfs.tar.gz): name one" in said


def test_packages_of_openwrt(tmp_path: Path) -> None:
    for name in ("root.tar", "mine.pub"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "feed").mkdir()
    path = tmp_path / "one.toml"
    path.write_text('[root]\nsource = "openwrt"\nrootfs = "root.tar"\n')
    assert read_profile(path).root.packages == (), "the default is Debian's"
    assert read_profile(path, settings=["kernel.source=files"]).kernel.image is None
    feeds = ["https://example/releases/23.05.5", "feed", "src/gz mine http://example:8080/a"]
    profile = read_profile(
        path, settings=['root.packages=["kmod-usb3", "-ppp", "libX_1"]', f"openwrt.feeds={feeds}",
                        'openwrt.keys=["mine.pub"]'],
    )  # fmt: skip
    assert profile.root.packages == ("kmod-usb3", "-ppp", "libX_1")
    assert profile.openwrt.feeds == (feeds[0], str(tmp_path / "feed"), feeds[2])
    assert profile.openwrt.keys == (str(tmp_path / "mine.pub"),)
    (said,) = problems('openwrt.keys=["mine.pub"]', "openwrt.hash_only=true", path=path)
    assert "keys and hash_only = true exclude each other" in said
    (said,) = problems('root.packages=["a b"]', path=path)
    assert "'a b' is not the name of an OpenWrt package" in said
    (said,) = problems(f"kernel.modules={tmp_path}", path=path)
    assert "needs both image" in said


def test_what_a_profile_says_itself_is_known() -> None:
    profile = read_profile(None, settings=["root.init=/etc/preinit"])
    assert profile.says("root.init") and not profile.says("output.compression")


def test_the_hint_names_a_page_that_is_there() -> None:
    with pytest.raises(ProfileError) as caught:
        read_profile(None, settings=["nmae=x"])
    assert caught.value.hint
    assert Path(caught.value.hint.split()[0]).samefile(MANUAL)


def test_the_profile_may_wait_as_long_as_the_boot() -> None:
    (limit,) = re.findall(r"^SETTLE_LIMIT=(\d+)", asset("initramfs/lib/parameters.sh").read_text(), re.MULTILINE)
    assert read_profile(None, settings=[f"storage.settle={limit}"]).storage.settle == int(limit)
    assert "storage.settle" in problems(f"storage.settle={int(limit) + 1}")[0]
    assert f"(0 to {limit})" in MANUAL.read_text()


def test_a_problem_found_later_is_told_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "attic.toml"
    path.write_text("")
    assert read_profile(path).problem("root.x", "no", hint="ls").message == f"{path}: root.x: no"
    assert read_profile(None).problem("root.x", "no", hint="ls").message == "the built-in profile: root.x: no"


def test_a_setting_is_toml_or_text() -> None:
    profile = read_profile(None, settings=["name=attic", "storage.settle=7", 'root.packages=["e2fsprogs"]'])
    assert (profile.name, profile.storage.settle, profile.root.packages) == ("attic", 7, ("e2fsprogs",))


def test_a_budget_may_be_none_in_so_many_words() -> None:
    assert read_profile(None, settings=["output.max_size=8M"]).output.max_size == 8 * 1024 * 1024
    assert read_profile(None, settings=["output.max_size=none"]).output.max_size is None


def test_a_setting_cannot_go_below_a_plain_value(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('name = "attic"\n')
    assert "name is not a section" in problems("name.first=x", path=path)[0]


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    assert "cannot be read" in problems(path=tmp_path / "missing.toml")[0]
    (tmp_path / "broken.toml").write_text("name = \n")
    assert "not TOML" in problems(path=tmp_path / "broken.toml")[0]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not TOML" in problems(path=tmp_path / "binary.toml")[0]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    ["name", *(f"{s}.{k}" for s, f in Profile.model_fields.items() if s != "name" for k in f.annotation.model_fields)]  # type: ignore[union-attr]
)


@given(st.lists(st.tuples(_KEYS | st.text(max_size=12), st.text(max_size=20)), max_size=5))
def test_any_settings_give_a_profile_or_an_error_of_ours(settings: list[tuple[str, str]]) -> None:
    try:
        read_profile(None, settings=[f"{key}={value}" for key, value in settings])
    except LivebuilderError as error:
        assert error.message


@given(_KEYS, _VALUES)
def test_any_value_in_any_key_gives_a_profile_or_an_error_of_ours(key: str, value: object) -> None:
    from pydantic import ValidationError

    from livebuilder.profile import _describe  # the words for pydantic's findings must fit every one of them

    nested: object = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    try:
        Profile.model_validate(nested)
    except ValidationError as error:
        assert all(key.split(".")[0] in _describe(detail) for detail in error.errors())


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJf4cq5ykGV8tTOjhSh0D8NHIRoYQRq0XNVLDcDsfUrH owner"
HASH = f"$5$salt${'a' * 43}"


def test_what_the_default_root_is_told(tmp_path: Path) -> None:
    (tmp_path / "me.pub").write_text(f"{KEY}\n{KEY} again\n")
    path = tmp_path / "attic.toml"
    path.write_text(f"""
name = "attic.pc"
[router]
timezone = "Europe/Berlin"
lan = "10.1.1.1/16"
wan = "00:0D:B9:12:34:56"
dhcp_range = "10.1.2.1-10.1.2.100"
dns = ["192.0.2.53", "2001:db8::53"]
ssh_keys = ["me.pub", "{KEY}"]
root_password_hash = "{HASH}"
""")
    settings = read_profile(path).router_settings()
    assert settings == RouterSettings(
        hostname="attic-pc", timezone="CET-1CEST,M3.5.0,M10.5.0/3", lan=IPv4Interface("10.1.1.1/16"),
        wan="00:0d:b9:12:34:56", dhcp_range=DhcpRange(513, 100), dns=("192.0.2.53", "2001:db8::53"),
        ssh_keys=(KEY, f"{KEY} again"), root_password_hash=HASH,
    )  # fmt: skip
    assert read_profile(path, settings=["router.hostname=attic"]).router_settings().hostname == "attic"
    assert read_profile(None).router_settings() == RouterSettings()


def test_all_that_is_wrong_with_the_router_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"""
[router]
hostname = "a b"
timezone = "Europe/Berln"
lan = "192.168.1.0/24"
wan = "e/th"
dhcp_range = "9-3"
dns = ["dns.example.org"]
ssh_keys = ["none.pub", "a private key", "{KEY[:-50]}"]
root_password_hash = "the word itself"
wifi = {{ ssid = "attic" }}
""")
    found = "\n".join(problems(path=path))
    for key, text in {
        "hostname": "is no host name", "timezone": "did you mean Europe/Berlin", "lan": "names the whole network",
        "wan": "is neither auto nor", "dhcp_range": "ends before it begins", "dns.0": "is no address of a server",
        "root_password_hash": "no password hash", "wifi": "the router has no wifi yet",
        "ssh_keys: none.pub": "No such file", "ssh_keys: 'a private key'": "is no public key",
    }.items():  # fmt: skip
        assert re.search(rf"router\.{re.escape(key)}.*{text}", found), (key, found)
    assert "damaged or cut off" in found
    assert "the word itself" not in found


def test_the_range_is_measured_against_the_lan() -> None:
    (problem,) = problems("router.lan=10.0.0.1/28")
    assert "router.dhcp_range: '100-249' is not inside the lan 10.0.0.0/28, which has the addresses 1-14" in problem
    read_profile(None, settings=["router.lan=10.0.0.1/28", "router.dhcp_range=2-14"])


@pytest.mark.parametrize("source", ["directory", "archive", "openwrt"])
def test_another_root_is_not_told(source: str) -> None:
    found = problems(f"root.source={source}", "router.lan=10.0.0.1/24")
    assert any("router: is for the default root" in problem for problem in found)


def test_packages_of_the_router_can_be_taken_out_and_no_others() -> None:
    assert read_profile(None, settings=['root.packages=["tcpdump", "-ppp"]']).root.packages == ("tcpdump", "-ppp")
    (problem,) = problems('root.packages=["-tcpdump"]')
    assert "root.packages: -tcpdump takes nothing out: the packages of the router are dnsmasq-base, " in problem
