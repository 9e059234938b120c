"""OpenWrt packages, feeds and a root to put them into, made with Python's tarfile: another's writing for our reader."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from livebuilder.tree import RootTree, directory, file, symlink
from tests.support.debs import Member, ar_of, folder, link, member, tar_of
from tests.support.signing import UsignPair

ARCHITECTURE = "i386_pentium4"
KERNEL = "5.15.167-1-0123456789abcdef0123456789abcdef"
EPOCH = 1_700_000_000

# As every package of OpenWrt has them.
DEFAULT_POSTINST = """\
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"""
DEFAULT_PRERM = """\
#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"""


@dataclass(frozen=True)
class Made:
    """A package of ours: its file's name and bytes, and its control file."""

    name: str
    filename: str
    data: bytes
    control: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def paragraph(self, *, hashes: Iterable[str] = ("SHA256sum",)) -> str:
        """Its place in an index."""
        sums = {"SHA256sum": self.sha256, "MD5Sum": hashlib.md5(self.data, usedforsecurity=False).hexdigest()}
        lines = [f"Filename: {self.filename}", f"Size: {len(self.data)}", *(f"{name}: {sums[name]}" for name in hashes)]
        return self.control + "".join(f"{line}\n" for line in lines)


def control_of(name: str, version: str = "1-1", **fields: str) -> str:
    values = {
        "Package": name, "Version": version, "Depends": "libc", "Source": f"package/{name}", "Section": "base",
        "Architecture": ARCHITECTURE, "Installed-Size": "1000",
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }  # fmt: skip
    return "".join(f"{key}: {value}\n" for key, value in values.items() if value)


def ipk(
    name: str,
    version: str = "1-1",
    members: Iterable[Member] = (),
    *,
    scripts: Mapping[str, str] | None = None,
    conffiles: Iterable[str] = (),
    as_ar: bool = False,
    **fields: str,
) -> Made:
    """A package as scripts/ipkg-build makes it, or as the oldest were. Keywords are control fields, `_` for `-`."""
    control = control_of(name, version, **fields)
    texts = {"control": control, "postinst": DEFAULT_POSTINST, "prerm": DEFAULT_PRERM, **(scripts or {})}
    if conffiles:
        texts["conffiles"] = "".join(f"{path}\n" for path in conffiles)
    modes = {"control": 0o644, "conffiles": 0o644}
    inside = [folder("./")]
    inside += [member(f"./{key}", text.encode(), mode=modes.get(key, 0o755)) for key, text in texts.items() if text]
    parts = {
        "debian-binary": b"2.0\n",
        "data.tar.gz": gzip.compress(tar_of([folder("./"), *members]), mtime=0),
        "control.tar.gz": gzip.compress(tar_of(inside), mtime=0),
    }
    data = ar_of(sorted(parts.items(), key=lambda part: part[0].startswith("data"))) if as_ar else ipk_of(parts)
    return Made(name, f"{name}_{version}_{ARCHITECTURE}.ipk", data, control)


def ipk_of(parts: Mapping[str, bytes]) -> bytes:
    """The outer archive around these members."""
    return gzip.compress(tar_of(member(f"./{name}", data) for name, data in parts.items()), mtime=0)


def write_feed(
    path: Path, packages: Iterable[Made], *, key: UsignPair | None = None, hashes: Iterable[str] = ("SHA256sum",)
) -> Path:
    """A folder as a feed's is: the packages, their index, plain and packed, and its signature."""
    path.mkdir(parents=True, exist_ok=True)
    made = list(packages)
    for one in made:
        (path / one.filename).write_bytes(one.data)
    index = "\n".join(one.paragraph(hashes=hashes) for one in made).encode()
    (path / "Packages").write_bytes(index)
    (path / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
    if key is not None:
        (path / "Packages.sig").write_bytes(key.sign(index))
    return path


def status_of(name: str, version: str = "1-1", *, state: str = "install user installed", **fields: str) -> str:
    """A paragraph of the status file."""
    values = {
        "Package": name, "Version": version, "Depends": "libc", "Status": state, "Architecture": ARCHITECTURE,
        "Installed-Time": "1690000000", **{key.replace("_", "-"): value for key, value in fields.items()},
    }  # fmt: skip
    return "".join(f"{key}:{'' if value[:1] == chr(10) else ' '}{value}\n" for key, value in values.items() if value)


PASSWD = "root:x:0:0:root:/root:/bin/ash\nnobody:*:65534:65534:nobody:/var:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
SHADOW = "root:::0:99999:7:::\n"


def small_root(*paragraphs: str, files: Mapping[str, str] | None = None) -> RootTree:
    """A root as OpenWrt's are laid out, with libc, kernel, busybox and base-files in it, and what else is given."""
    known = [
        status_of("libc", "1.2.4-4", Depends="", state="install hold,user installed"),
        status_of("kernel", KERNEL, Depends=""),
        status_of("busybox", "1.36.1-1", Essential="yes"),
        status_of("base-files", "1-r1"),
        *paragraphs,
    ]
    texts = {
        "etc/passwd": PASSWD, "etc/group": GROUP, "etc/shadow": SHADOW,
        "etc/openwrt_release": f"DISTRIB_TARGET='x86/generic'\nDISTRIB_ARCH='{ARCHITECTURE}'\n",
        "etc/opkg.conf": "dest root /\ndest ram /tmp\nlists_dir ext /var/opkg-lists\noption overlay_root /overlay\n",
        "lib/functions.sh": "# functions\n",
        "usr/lib/opkg/status": "".join(f"{text}\n" for text in known),
        "usr/lib/opkg/info/libc.list": "/lib/ld-musl-i386.so.1\n",
        "usr/lib/opkg/info/kernel.list": "",
        "usr/lib/opkg/info/busybox.list": "/bin/busybox\n/bin/ls\n/bin/sh\n",
        "usr/lib/opkg/info/base-files.list": "/etc/passwd\n/etc/group\n/etc/shadow\n/lib/functions.sh\n",
        "bin/busybox": "\x7fELF busybox", "lib/ld-musl-i386.so.1": "\x7fELF libc",
        **(files or {}),
    }  # fmt: skip
    tree = RootTree()
    for path, mode in {"tmp": 0o1777, "root": 0o700, "etc/init.d": 0o755, "etc/rc.d": 0o755}.items():
        tree.add(directory(path, mode=mode))
    tree.add(symlink("var", "/tmp"))
    tree.add(symlink("bin/ls", "busybox"))
    tree.add(symlink("bin/sh", "busybox"))
    for path, text in texts.items():
        mode = 0o600 if path == "etc/shadow" else 0o755 if path.startswith(("etc/init.d/", "bin/")) else 0o644
        tree.add(replace(file(path, text, mode=mode, source="the stock root"), mtime=1_690_000_000))
    return tree


def service(start: str = "95", *, more: str = "") -> bytes:
    """A file of /etc/init.d."""
    return f"#!/bin/sh /etc/rc.common\n\nSTART={start}\n{more}\nstart() {{\n\ttrue\n}}\n".encode()


def block_mount(version: str = "2024.07.14-1", *, depends: str = "libc", conflicts: str = "") -> Made:
    """A package with something of everything."""
    return ipk(
        "block-mount", version,
        [
            folder("./etc/"), folder("./etc/config/"), folder("./etc/init.d/"), folder("./etc/uci-defaults/"),
            folder("./sbin/"), folder("./usr/"), folder("./usr/libexec/"),
            member("./etc/config/fstab", b"config global\n", mode=0o600),
            member("./etc/init.d/fstab", service("11", more="STOP=90"), mode=0o755),
            member("./etc/uci-defaults/10-fstab", b"block detect\n", mode=0o755),
            member("./sbin/block", b"\x7fELF block" * 50, mode=0o755),
            member("./usr/libexec/my file", b"a name with a space"),
            link("./usr/sbin/block", "../../sbin/block"),
            link("./sbin/swapon", "./sbin/block", hard=True),
        ],
        scripts={"postinst-pkg": "#!/bin/sh\nuci set fstab.global.anon_mount=1\n"},
        conffiles=["/etc/config/fstab"],
        Require_User="block=201:block=201", Alternatives="200:/bin/ls:/usr/libexec/ls, 100:/usr/bin/new:/sbin/block",
        ABIVersion="1", Provides="block-mount-any, mounter", Depends=depends, Conflicts=conflicts,
    )  # fmt: skip
