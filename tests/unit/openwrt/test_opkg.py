import hashlib
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.cpio import archive
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.ipk import Ipk, read_ipk
from livebuilder.openwrt.opkg import DEFERRED, OfflineRoot, alternatives_of, needs_running, read_status, render_deferred
from livebuilder.tree import Kind, RootTree, directory, file, symlink
from tests.support.debs import folder, link, member
from tests.support.ipks import (
    EPOCH,
    KERNEL,
    Made,
    block_mount,
    ipk,
    service,
    small_root,
    status_of,
)
from tests.support.trees import facts

# What OpenWrt's own opkg (opkg-lede 38eccbb) wrote for the same packages and root, `--offline-root R install user`, but
# for Conflicts, where it writes `<< 3` as `< 3`, which it reads as `<= 3`.
WRITTEN_BY_OPKG = {
    "block-mount": f"""\
Package: block-mount
ABIVersion: 1
Version: 2024.07.14-1
Depends: libc
Provides: block-mount-any, mounter
Status: install ok installed
Architecture: i386_pentium4
Conffiles:
 /etc/config/fstab 22b4c771e0e4ebf69c4963bdef8971729ab3635fa908ea4364040c8dd5a14d61
Installed-Time: {EPOCH}
Auto-Installed: yes
Alternatives: 200:/bin/ls:/usr/libexec/ls, 100:/usr/bin/new:/sbin/block
""",
    "libthing20230523": f"""\
Package: libthing20230523
ABIVersion: 20230523
Version: 2.0-3
Depends: libc
Provides: libthing
Status: install ok installed
Architecture: i386_pentium4
Installed-Time: {EPOCH}
Auto-Installed: yes
""",
    "user": f"""\
Package: user
Version: 1-1
Depends: libc, libthing (>= 1), block-mount (>= 2024) | nothing, kernel (= {KERNEL})
Conflicts: bad (<< 3)
Status: install user installed
Architecture: i386_pentium4
Conffiles:
 /etc/config/kept 11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437
Installed-Time: {EPOCH}
""",
}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def unpacked(made: Made, cache: Cache) -> Ipk:
    path = cache.folder("made") / made.filename
    path.write_bytes(made.data)
    return read_ipk(path, cache=cache)


def installed(tree: RootTree, cache: Cache, *made: Made, wanted: bool = True) -> OfflineRoot:
    root = OfflineRoot(tree, epoch=EPOCH)
    for one in made:
        root.install(unpacked(one, cache), wanted=wanted)
    root.finished()
    return root


def text(tree: RootTree, path: str) -> str:
    entry = tree.resolve(path)
    assert entry is not None, path
    return tree.content_of(entry).read().decode()


def test_the_records_are_those_of_opkg_itself(cache: Cache) -> None:
    before = small_root(files={"etc/config/kept": "old"})
    root = OfflineRoot(before, epoch=EPOCH)
    thing = ipk(
        "libthing20230523", "2.0-3", [member("./usr/lib/libthing.so.2", b"x"), member("./var/lib/x", b"in tmp")],
        Provides="libthing", ABIVersion="20230523",
    )  # fmt: skip
    user = ipk(
        "user", members=[member("./bin/user", b"u", mode=0o755), member("./etc/config/kept", b"new")],
        conffiles=["/etc/config/kept"], Conflicts="bad (<< 3)",
        Depends=f"libc, libthing (>= 1), block-mount (>=2024) | nothing, kernel (={KERNEL})",
    )  # fmt: skip
    for made, wanted in ((block_mount(), False), (thing, False), (user, True)):
        root.install(unpacked(made, cache), wanted=wanted)
    tree = root.finished()
    status = text(tree, "usr/lib/opkg/status")
    assert status == text(before, "usr/lib/opkg/status") + "".join(f"{one}\n" for one in WRITTEN_BY_OPKG.values())
    assert text(tree, "usr/lib/opkg/info/block-mount.list").splitlines() == [
        "/etc/config/fstab", "/etc/init.d/fstab", "/etc/uci-defaults/10-fstab", "/sbin/block", "/sbin/swapon",
        "/usr/libexec/my file", "/usr/sbin/block",
    ]  # fmt: skip
    assert text(tree, "usr/lib/opkg/info/libthing20230523.list") == "/usr/lib/libthing.so.2\n/var/lib/x\n"
    info = {entry.name: entry.mode for entry in tree if entry.name.startswith(("block-mount.", "user."))}
    assert info == {
        "block-mount.control": 0o644, "block-mount.conffiles": 0o644, "block-mount.list": 0o644,
        "block-mount.postinst": 0o755, "block-mount.postinst-pkg": 0o755, "block-mount.prerm": 0o755,
        "user.control": 0o644, "user.conffiles": 0o644, "user.list": 0o644, "user.postinst": 0o755, "user.prerm": 0o755,
    }  # fmt: skip
    assert text(tree, "usr/lib/opkg/info/user.control") == user.control
    assert text(tree, "usr/lib/opkg/info/user.conffiles") == "/etc/config/kept\n"
    assert set(read_status(tree).installed) == {*read_status(before).installed, *WRITTEN_BY_OPKG}
    assert facts(before) == facts(small_root(files={"etc/config/kept": "old"})), "the tree given stays as it was"


def test_files_with_all_they_are(cache: Cache) -> None:
    tree = installed(small_root(), cache, block_mount()).tree
    assert (tree["sbin/block"].mode, tree["sbin/block"].content.size) == (0o755, 500)
    assert (tree["etc/config/fstab"].mode, tree["etc/config/fstab"].uid) == (0o600, 0)
    assert (tree["sbin/swapon"].kind, tree["sbin/swapon"].target) == (Kind.HARDLINK, "sbin/block")
    assert tree["usr/sbin/block"].target == "../../sbin/block"
    assert text(tree, "usr/libexec/my file") == "a name with a space"
    tree.verify()


def test_a_second_time_the_same_bytes(cache: Cache, tmp_path: Path) -> None:
    one = installed(small_root(), cache, block_mount(), ipk("x")).tree
    other = installed(small_root(), Cache(tmp_path / "other"), block_mount(), ipk("x")).tree
    assert b"".join(archive(one)) == b"".join(archive(other))
    made_here = [entry for entry in one if entry.path.startswith(("usr/lib/opkg/", "etc/rc.d/")) and entry.mtime]
    assert {entry.mtime for entry in made_here if entry.path != "usr/lib/opkg/info/libc.list"} >= {EPOCH}
    assert one["usr/lib/opkg/status"].mtime == one["etc/rc.d/S11fstab"].mtime == one["bin/ls"].mtime == EPOCH


def test_folders_that_are_there_stay_as_they_are(cache: Cache) -> None:
    made = ipk("x", members=[folder("./root/"), folder("./tmp/"), folder("./var/"), folder("./new/", 0o700)])
    tree = installed(small_root(), cache, made).tree
    assert (tree["root"].mode, tree["tmp"].mode, tree["var"].kind, tree["new"].mode) == (
        0o700, 0o1777, Kind.SYMLINK, 0o700,
    )  # fmt: skip


def test_files_go_where_links_of_the_root_lead(cache: Cache) -> None:
    root = small_root()
    root.add(symlink("lib64", "lib"))
    tree = installed(root, cache, ipk("x", members=[member("./var/lib/x/y", b"1"), member("./lib64/z", b"2")])).tree
    assert (text(tree, "tmp/lib/x/y"), text(tree, "lib/z")) == ("1", "2")
    assert text(tree, "usr/lib/opkg/info/x.list") == "/lib64/z\n/var/lib/x/y\n"


def test_a_link_that_leads_nowhere_is_refused(cache: Cache) -> None:
    root = small_root()
    root.add(symlink("srv", "/mnt/none"))
    with pytest.raises(LivebuilderError, match="lies below /srv, a link to /mnt/none, which is no folder"):
        installed(root, cache, ipk("x", members=[member("./srv/y", b"1")]))


def test_conffiles_that_are_there_are_kept(cache: Cache) -> None:
    root = small_root(files={"etc/config/a": "mine\n", "etc/config/b": "same\n"})
    made = ipk(
        "x", members=[member(f"./etc/config/{name}", data) for name, data in
                      {"a": b"theirs\n", "b": b"same\n", "c": b"new\n"}.items()],
        conffiles=[f"/etc/config/{name}" for name in "abc"],
    )  # fmt: skip
    done = installed(root, cache, made)
    assert (text(done.tree, "etc/config/a"), text(done.tree, "etc/config/a-opkg")) == ("mine\n", "theirs\n")
    assert (text(done.tree, "etc/config/b"), text(done.tree, "etc/config/c")) == ("same\n", "new\n")
    assert "etc/config/b-opkg" not in done.tree
    assert done.kept == ["/etc/config/a"]


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("lib/functions.sh", b"other", r"x 1-1 would overwrite /lib/functions\.sh, which is of base-files"),
        ("etc/openwrt_release", b"other", "/etc/openwrt_release, which no package brought"),
        ("bin/ls", b"a file", "/bin/ls, which is of busybox"),
        ("lib", b"a file", "/lib, which no package brought"),
    ],
)
def test_nothing_of_others_is_overwritten(cache: Cache, path: str, data: bytes, message: str) -> None:
    with pytest.raises(LivebuilderError, match=message):
        installed(small_root(), cache, ipk("x", members=[member(f"./{path}", data)]))


def test_a_folder_does_not_take_the_place_of_a_file(cache: Cache) -> None:
    with pytest.raises(LivebuilderError, match="would overwrite /etc/passwd"):
        installed(small_root(), cache, ipk("x", members=[folder("./etc/passwd/")]))


def test_the_very_same_file_is_no_clash(cache: Cache) -> None:
    tree = installed(small_root(), cache, ipk("x", members=[member("./lib/functions.sh", b"# functions\n")])).tree
    assert text(tree, "usr/lib/opkg/info/x.list") == "/lib/functions.sh\n"
    out = OfflineRoot(tree, epoch=EPOCH)
    out.remove("x")
    assert "lib/functions.sh" in out.finished(), "it is still base-files'"


def old_root() -> RootTree:
    """A root with version 1 of the package x."""
    known = {"changed": hashlib.sha256(b"as it came"), "same": hashlib.sha256(b"unchanged")}
    conffiles = "".join(f"\n /etc/config/{name} {digest.hexdigest()}" for name, digest in known.items())
    paragraph = status_of("x", "1-1", Conffiles=conffiles)
    return small_root(paragraph, files={
        "usr/lib/opkg/info/x.list": "/usr/bin/x\n/usr/bin/gone\n/etc/config/changed\n/etc/config/same\n/etc/init.d/x\n",
        "usr/lib/opkg/info/x.control": "old", "usr/lib/opkg/info/x.prerm": "#!/bin/sh\n", "usr/bin/x": "1",
        "usr/lib/opkg/info/x.postrm": "#!/bin/sh\n",
        "usr/lib/opkg/info/x.y.control": "of another package", "usr/bin/gone": "1", "etc/config/changed": "mine",
        "etc/config/same": "unchanged", "etc/init.d/x": service("40").decode(),
    })  # fmt: skip


def newer() -> Made:
    return ipk(
        "x", "2-1",
        [member("./usr/bin/x", b"2", mode=0o755), member("./etc/config/changed", b"theirs"),
         member("./etc/config/same", b"new default"), member("./etc/init.d/x", service("50"), mode=0o755)],
        conffiles=["/etc/config/changed", "/etc/config/same"],
    )  # fmt: skip


def test_a_newer_version_takes_the_place_of_the_old_one(cache: Cache) -> None:
    root = old_root()
    root.add(symlink("etc/rc.d/S40x", "../init.d/x"))
    done = installed(root, cache, newer())
    assert text(done.tree, "usr/bin/x") == "2"
    assert "usr/bin/gone" not in done.tree
    assert (text(done.tree, "etc/config/changed"), text(done.tree, "etc/config/changed-opkg")) == ("mine", "theirs")
    assert text(done.tree, "etc/config/same") == "new default"
    assert text(done.tree, "usr/lib/opkg/status").count("Package: x\n") == 1
    assert "usr/lib/opkg/info/x.postrm" not in done.tree
    assert "Version: 2-1\n" in text(done.tree, "usr/lib/opkg/status")
    assert "etc/rc.d/S40x" not in done.tree
    assert done.tree["etc/rc.d/S50x"].target == "../init.d/x"


def test_a_folder_is_no_conffile(cache: Cache) -> None:
    root = small_root(files={"etc/x/mine": "1"})
    with pytest.raises(LivebuilderError, match="would overwrite /etc/x,"):
        installed(root, cache, ipk("x", members=[member("./etc/x", b"2")], conffiles=["/etc/x"]))


def test_a_service_that_was_off_stays_off(cache: Cache) -> None:
    assert [entry.path for entry in installed(old_root(), cache, newer()).tree if entry.parent == "etc/rc.d"] == []


def test_taking_a_package_out(cache: Cache) -> None:
    before = old_root()
    before.add(symlink("etc/rc.d/S40x", "../init.d/x"))
    before.add(symlink("etc/rc.d/S40xy", "../init.d/xy"))
    root = OfflineRoot(before, epoch=EPOCH)
    root.remove("x")
    tree = root.finished()
    gone = {entry.path for entry in before} - {entry.path for entry in tree}
    assert gone == {
        "usr/bin/x", "usr/bin/gone", "etc/config/same", "etc/init.d/x", "etc/rc.d/S40x",
        "usr/lib/opkg/info/x.list", "usr/lib/opkg/info/x.control", "usr/lib/opkg/info/x.prerm",
        "usr/lib/opkg/info/x.postrm",
    }  # fmt: skip
    assert "x" not in read_status(tree).installed
    assert "Package: x\n" not in text(tree, "usr/lib/opkg/status")


def test_alternatives(cache: Cache) -> None:
    busybox = status_of("coreutils-ls", Alternatives="300:/bin/ls:/usr/bin/ls-coreutils")
    lower = ipk("lower", Alternatives="200:/bin/ls:/usr/bin/ls-lower, 5:/usr/bin/one:/bin/busybox")
    upper = ipk("upper", Alternatives="400:/bin/ls:/usr/bin/ls-upper")
    assert installed(small_root(), cache, lower).tree["bin/ls"].target == "/usr/bin/ls-lower"
    assert installed(small_root(), cache, lower).tree["usr/bin/one"].target == "/bin/busybox"
    assert installed(small_root(busybox), cache, lower).tree["bin/ls"].target == "/usr/bin/ls-coreutils"
    assert installed(small_root(busybox), cache, lower, upper).tree["bin/ls"].target == "/usr/bin/ls-upper"


def test_an_alternative_falls_back_to_busybox(cache: Cache) -> None:
    paragraph = status_of("coreutils", Alternatives="300:/bin/ls:/usr/bin/ls-coreutils, 300:/bin/else:/usr/bin/else")
    root = small_root(paragraph)
    for path in ("bin/ls", "bin/else"):
        root.remove(path)
        root.add(symlink(path, "/usr/bin/x"))
    out = OfflineRoot(root, epoch=EPOCH)
    out.remove("coreutils")
    tree = out.finished()
    assert tree["bin/ls"].target == "/bin/busybox"
    assert "bin/else" not in tree


def test_what_is_no_link_does_not_become_an_alternative(cache: Cache) -> None:
    done = installed(small_root(), cache, ipk("x", Alternatives="9:/lib/functions.sh:/bin/x"))
    assert text(done.tree, "lib/functions.sh") == "# functions\n"
    assert done.warnings == ["/lib/functions.sh is a file, not a link, so it does not become one to /bin/x"]


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("200:/bin/ls:/usr/bin/ls", [(200, "/bin/ls", "/usr/bin/ls")]),
        (" 1:/a:b ,  -2:/c:/d", [(1, "/a", "b"), (-2, "/c", "/d")]),
        ("x:/a:b, 1:a:b, 1:/a, 1:/a:b:c, 1:/../a:b, ", []),
    ],
)
def test_what_the_field_says(field: str, found: list[tuple[int, str, str]]) -> None:
    assert alternatives_of({"Alternatives": field}) == found


def test_users_and_groups(cache: Cache) -> None:
    tree = installed(small_root(), cache, block_mount()).tree
    assert "block:x:201:201:block:/var/run/block:/bin/false\n" in text(tree, "etc/passwd")
    assert text(tree, "etc/group").endswith("block:x:201:block\n")
    assert text(tree, "etc/shadow").endswith("block:x:0:0:99999:7:::\n")
    assert (tree["etc/shadow"].mode, tree["etc/passwd"].mode) == (0o600, 0o644)


def test_services_are_enabled(cache: Cache) -> None:
    made = ipk("x", members=[
        member("./etc/init.d/one", service("95"), mode=0o755), member("./etc/init.d/odd", service("$X"), mode=0o755),
        member("./etc/init.d/no", b"#!/bin/sh\nSTART=1\n", mode=0o755), link("./etc/init.d/two", "one"),
    ])  # fmt: skip
    done = installed(small_root(), cache, made)
    links = {entry.path: entry.target for entry in done.tree if entry.parent == "etc/rc.d"}
    assert links == {"etc/rc.d/S95one": "../init.d/one", "etc/rc.d/S95two": "../init.d/two"}
    (warning,) = done.warnings
    assert warning.startswith("/etc/init.d/odd computes when")


GUARD = '[ -z "$IPKG_INSTROOT" ] || exit 0\n'
POSTINST = {
    "none": ({"postinst": ""}, False),
    "OpenWrt's own": ({}, False),
    "its own": ({"postinst-pkg": "#!/bin/sh\nuci commit\n"}, True),
    "nothing in it": ({"postinst-pkg": "#!/bin/sh\n# nothing\n\nexit 0\n"}, False),
    "for running systems": ({"postinst-pkg": '[ -n "${IPKG_INSTROOT}" ] && return 0\nkillall x\n'}, False),
    "the same the other way": ({"postinst-pkg": f"#!/bin/sh\n{GUARD}killall x\n"}, False),
    "a module's of the old days": ({"postinst": f"#!/bin/sh\n{GUARD}. /etc/functions.sh\nload_modules 30-x\n"}, False),
    "old style": ({"postinst": "#!/bin/sh\n/etc/init.d/x enable\n"}, True),
    "one command for running systems": (
        {"postinst-pkg": '[ -n "${IPKG_INSTROOT}" ] || /etc/init.d/rpcd reload\n'},
        False,
    ),
    "and one for all": ({"postinst-pkg": '[ -n "${IPKG_INSTROOT}" ] || reload\necho >>$IPKG_INSTROOT/etc/x\n'}, True),
    "more of them": ({"postinst-pkg": '[ -z "${IPKG_INSTROOT}" ] && {\nkillall x\n}\necho\n'}, True),
    "for images only": ({"postinst-pkg": '[ -z "${IPKG_INSTROOT}" ] && exit 0\necho >>$IPKG_INSTROOT/etc/x\n'}, True),
    "for images too": ({"postinst-pkg": '[ -n "$IPKG_INSTROOT" ] || killall x\necho >>$IPKG_INSTROOT/etc/x\n'}, True),
}


@pytest.mark.parametrize(("scripts", "deferred"), POSTINST.values(), ids=POSTINST.keys())
def test_which_postinst_waits_for_the_first_boot(cache: Cache, scripts: dict[str, str], deferred: bool) -> None:
    made = ipk("x", scripts=scripts)
    assert needs_running(unpacked(made, cache)) is deferred
    done = installed(small_root(), cache, made)
    assert done.deferred == (["x"] if deferred else [])
    assert (DEFERRED in done.tree) is deferred


def test_the_deferred_ones_in_their_order(cache: Cache) -> None:
    scripts = {"postinst-pkg": "#!/bin/sh\nuci commit\n"}
    tree = installed(small_root(), cache, *(ipk(name, scripts=scripts) for name in ("z", "a.b+c"))).tree
    assert text(tree, DEFERRED) == render_deferred(["z", "a.b+c"])
    assert "for name in z a.b+c; do" in text(tree, DEFERRED)
    assert tree[DEFERRED].mode == 0o755


def test_scripts_that_no_build_runs_are_told(cache: Cache) -> None:
    made = ipk("x", scripts={"preinst": "#!/bin/sh\nmkdir /x\n", "postrm": "#!/bin/sh\nrm /x\n"})
    done = installed(small_root(), cache, made)
    assert done.warnings == ["x has a preinst script, which no build runs"]
    again = OfflineRoot(done.tree, epoch=EPOCH)
    again.remove("x")
    assert again.warnings == ["x has a postrm script, which no build runs"]


def test_old_opkg_had_md5(cache: Cache) -> None:
    root = small_root(status_of("old", Conffiles="\n /etc/old d41d8cd98f00b204e9800998ecf8427e"))
    made = ipk("x", members=[member("./etc/x", b"")], conffiles=["/etc/x"])
    assert " /etc/x d41d8cd98f00b204e9800998ecf8427e\n" in text(
        installed(root, cache, made).tree, "usr/lib/opkg/status"
    )


def test_lists_of_old_opkg_have_folders_and_more(cache: Cache) -> None:
    root = small_root(
        status_of("x"), files={"usr/lib/opkg/info/x.list": "/usr/share/\n/usr/share/x\t0100644\n", "usr/share/x": "1"}
    )
    root.add(directory("usr/share/empty"))
    out = OfflineRoot(root, epoch=EPOCH)
    out.remove("x")
    assert "usr/share/x" not in out.finished()
    assert "usr/share/empty" in out.tree


STATUS = {
    "apk": (lambda tree: tree.add(file("lib/apk/db/installed", "")), "it uses apk"),
    "none": (lambda tree: None, "it has no /usr/lib/opkg/status"),
}


@pytest.mark.parametrize(("change", "says"), STATUS.values(), ids=STATUS.keys())
def test_a_root_without_opkg_is_refused(change: object, says: str) -> None:
    tree = small_root()
    tree.remove("usr/lib/opkg/status")
    assert callable(change)
    change(tree)
    with pytest.raises(LivebuilderError, match=says):
        OfflineRoot(tree, epoch=EPOCH)


def test_a_damaged_status_is_refused() -> None:
    with pytest.raises(LivebuilderError, match="the root's /usr/lib/opkg/status is damaged"):
        OfflineRoot(small_root("Package: ../x\nVersion: 1\nStatus: install ok installed\n"), epoch=EPOCH)


def test_paragraphs_of_what_is_not_installed_stay(cache: Cache) -> None:
    held = status_of("held", state="deinstall hold not-installed")
    tree = installed(small_root(held), cache, ipk("x")).tree
    assert held in text(tree, "usr/lib/opkg/status")
    assert "held" not in read_status(tree).installed


def test_a_field_cannot_bring_another_with_it(cache: Cache) -> None:
    made = ipk(
        "x", Architecture="i386\n Status: install ok installed", ABIVersion="1\n Package: y", Depends="a\n Version: 2"
    )
    tree = installed(small_root(), cache, made).tree
    status = text(tree, "usr/lib/opkg/status")
    assert "Architecture: i386 Status: install ok installed\n" in status
    assert "ABIVersion: 1 Package: y\n" in status
    assert read_status(tree).installed["x"].version == "1-1"


def test_flags_of_the_control_file(cache: Cache) -> None:
    made = ipk("x", Status="unknown hold not-installed", Essential="yes")
    status = text(installed(small_root(), cache, made).tree, "usr/lib/opkg/status")
    assert "Status: install hold,user installed\nEssential: yes\n" in status


def test_a_users_file_that_takes_the_owners_place(cache: Cache) -> None:
    """A hard link of the package whose file the user keeps."""
    root = small_root(files={"etc/a": "mine"})
    made = ipk("x", members=[member("./etc/a", b"theirs"), link("./etc/b", "./etc/a", hard=True)], conffiles=["/etc/a"])
    tree = installed(root, cache, made).tree
    assert (text(tree, "etc/a"), text(tree, "etc/b")) == ("mine", "theirs")
    tree.verify()
