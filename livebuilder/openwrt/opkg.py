"""A root as `opkg --offline-root` leaves it: packages laid in, and what opkg keeps of them where it looks for that.

    /usr/lib/opkg/status                a paragraph a package (libopkg/pkg.c, pkg_print_status)
    /usr/lib/opkg/info/NAME.list        its files, absolute, one a line, no folders
    /usr/lib/opkg/info/NAME.control …   what else control.tar.gz had: conffiles, preinst, postinst, prerm, postrm

No script of a package runs here. What a postinst does in OpenWrt's image builder (`default_postinst`) is done for it:
users and groups, alternatives, the links in /etc/rc.d that enable services. What is left of a postinst waits in
/etc/uci-defaults and runs at the first boot, with IPKG_INSTROOT=/, so that it decides as in the image builder.

Other than opkg, a folder that is there keeps its mode and owner.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from livebuilder.deb822 import parse_paragraphs, split_paragraphs
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.accounts import Accounts
from livebuilder.openwrt.feed import Package, package_of, parse_depends
from livebuilder.openwrt.ipk import Ipk
from livebuilder.openwrt.services import is_service, service_links
from livebuilder.tree import Content, Entry, Kind, RootTree, file, is_implied, symlink

INFO = "usr/lib/opkg/info"
STATUS = "usr/lib/opkg/status"
DEFERRED = "etc/uci-defaults/00_livebuilder-postinst"
_SOURCE = "opkg's records"
_KEPT_SUFFIX = "-opkg"
_THERE = (["installed"], ["unpacked"])
_FLAGS = ("hold", "noprune", "obsolete")
_BUSYBOX = ("busybox", "/bin/busybox")  # what a name falls back to (libopkg/pkg_alternatives.c)
# `[ -n "$IPKG_INSTROOT" ] && exit 0` and the like end a script in an image; of others only what follows is passed over.
_INSTROOT = r"\"?\$\{?IPKG_INSTROOT\}?\"?(?: \])?"
_LEAVES = re.compile(rf"(?:\[|test) (?:-n {_INSTROOT} *&&|-z {_INSTROOT} *\|\|) *(?:exit|return) 0\b")
_PASSES = re.compile(rf"(?:\[|test) (?:-n {_INSTROOT} *\|\||-z {_INSTROOT} *&&) .*[^{{(&|\\]$")
_MOST_TOLD = 10


@dataclass(frozen=True)
class Status:
    """A status file: every paragraph as it stands, by package, and those of installed packages as what they say."""

    paragraphs: Mapping[str, str]
    installed: Mapping[str, Package]


def read_status(tree: RootTree) -> Status:
    """What a root's opkg says is installed. Raises `LivebuilderError` when it has no status file, or a damaged one."""
    entry = tree.resolve(STATUS)
    if entry is None or entry.kind is not Kind.FILE:
        apk = tree.get("lib/apk/db/installed") is not None
        why = "it uses apk, and its packages are no .ipk" if apk else f"it has no /{STATUS}"
        raise LivebuilderError(
            f"packages cannot be put into this root: {why}",
            hint="leave packages out; a root of OpenWrt 10.03 to 24.10 with its package manager in it can take them",
        )
    paragraphs: dict[str, str] = {}
    installed: dict[str, Package] = {}
    for block, fields in _status_paragraphs(entry.content.read().decode("utf-8", "surrogateescape")):
        package = package_of({**fields, "Filename": ""}, source=f"the root's /{STATUS}")
        if package.name not in installed:
            paragraphs[package.name] = block.strip("\n") + "\n"
        if _is_there(fields):
            installed[package.name] = package
    return Status(paragraphs, installed)


def installed_versions(tree: RootTree) -> Mapping[str, str] | None:
    """The versions of what a root's opkg lists, by name, as far as its status file can be read; None without one."""
    entry = tree.resolve(STATUS)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        return None
    text = tree.content_of(entry).read().decode("utf-8", "replace")
    return {
        fields["Package"]: fields["Version"]
        for _, fields in _status_paragraphs(text)
        if fields.get("Package") and fields.get("Version") and _is_there(fields)
    }


def _status_paragraphs(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The paragraphs of a status file, each as it stands and as fields."""
    for block in split_paragraphs(text):
        for fields in parse_paragraphs(block):
            yield block, fields


def _is_there(fields: Mapping[str, str]) -> bool:
    """Whether opkg lists it as installed (libopkg, pkg_hash.c): the third word of its status."""
    return fields.get("Status", "").split()[2:3] in _THERE


class OfflineRoot:
    """A root to install packages into and take them out of; the tree it was made from stays as it is.

    `epoch` (seconds since 1970) is the time of everything made here. Every method raises `LivebuilderError` with what
    stands in the way. `kept` are the files a user may change that were there and differ from the package's,
    `deferred` the packages whose postinst runs at the first boot, `warnings` a sentence each.
    """

    def __init__(self, tree: RootTree, *, epoch: int) -> None:
        status = read_status(tree)
        self.tree = RootTree(tree)
        self.epoch = epoch
        self.paragraphs = dict(status.paragraphs)
        self.installed = dict(status.installed)
        self.owners: dict[str, str] = {}  # a file's path → the package it is of: the first that lists it
        for name in self.installed:
            self._own(name, self._listed(name))
        self.kept: list[str] = []
        self.deferred: list[str] = []
        self.warnings: list[str] = []
        self._alternatives: dict[str, None] = {}
        self._md5 = any(re.search(r"^ \S+ [0-9a-f]{32}$", text, re.MULTILINE) for text in self.paragraphs.values())

    def remove(self, name: str) -> None:
        """Take an installed package out; files the user may change stay when they were changed, as in opkg."""
        self._take_out(name, keep_links=False)
        self.warnings += self._unrun(name, ("prerm-pkg", "postrm"))
        self._forget(name)
        del self.paragraphs[name], self.installed[name]

    def install(self, ipk: Ipk, *, wanted: bool) -> None:
        """Lay a package in, over the version that is there if there is one; `wanted` when the user asked for it."""
        name = ipk.name
        there = {path: self.tree.get(self._real(path)) for path in ipk.conffiles}
        before = {path: entry for path, entry in there.items() if entry and entry.kind is not Kind.DIRECTORY}
        known = frozenset(self._listed(name))
        unchanged = self._unchanged_conffiles(name)
        if name in self.installed:
            self._take_out(name, keep_links=True)
            self._forget(name)
        self._refuse_clashes(ipk, replaceable=before.keys())
        for entry in ipk.tree:
            self._lay(entry)
        hashes = self._conffile_hashes(ipk)
        for path, old in before.items():
            if path not in unchanged:
                self._keep(path, old)
        for control in ipk.control_files:
            self._write(f"{INFO}/{name}.{control.path}", control.content, mode=control.mode)
        listed = sorted(f"/{entry.path}" for entry in ipk.tree if entry.kind is not Kind.DIRECTORY)
        self._write(f"{INFO}/{name}.list", "".join(f"{path}\n" for path in listed))
        self._own(name, listed)
        self.paragraphs[name] = render_status(ipk, wanted=wanted, epoch=self.epoch, conffiles=hashes)
        self.installed[name] = package_of({**ipk.fields, "Filename": ""}, source=ipk.source)
        self._alternatives |= dict.fromkeys(path for _, path, _ in alternatives_of(ipk.fields))
        self._add_accounts(ipk)
        self._enable(listed, known=known)
        self._defer(ipk)

    def finished(self) -> RootTree:
        """The root with its records written."""
        for path in self._alternatives:
            self._link_alternative(path)
        if self.deferred:
            self._write(DEFERRED, render_deferred(self.deferred), mode=0o755)
        self._write(STATUS, "".join(f"{text}\n" for text in self.paragraphs.values()))
        return self.tree

    def _write(self, path: str, data: str | Content, *, mode: int = 0o644) -> None:
        if isinstance(data, str):
            data = Content.from_bytes(data.encode("utf-8", "surrogateescape"))
        real = self._real(path)
        self.tree.remove(real)
        self.tree.add(replace(file(real, data, mode=mode, source=_SOURCE), mtime=self.epoch))

    def _real(self, path: str) -> str:
        """Where `path` leads when symlinks among its folders are followed, as they are when a file is written."""
        parent, name = posixpath.split(path.strip("/"))
        here = ""
        for part in parent.split("/") if parent else ():
            here = f"{here}/{part}" if here else part
            entry = self.tree.get(here)
            if entry is not None and entry.kind is Kind.SYMLINK:
                led = self.tree.resolve(here)
                if led is None or led.kind is not Kind.DIRECTORY:
                    raise LivebuilderError(
                        f"/{path.strip('/')} lies below /{here}, a link to {entry.target}, which is no folder"
                    )
                here = led.path
        return f"{here}/{name}" if here else name

    def _listed(self, name: str) -> list[str]:
        entry = self.tree.get(f"{INFO}/{name}.list")
        text = entry.content.read().decode("utf-8", "surrogateescape") if entry else ""
        # Old versions of opkg list folders too, and may put more behind a tab.
        return [words[0] for line in text.splitlines() if (words := line.split("\t"))[0].startswith("/")]

    def _own(self, name: str, paths: Iterable[str]) -> None:
        for path in paths:
            self.owners.setdefault(path, name)

    def _take_out(self, name: str, *, keep_links: bool) -> None:
        unchanged = self._unchanged_conffiles(name)
        conffiles = self._conffiles(name).keys()
        for path in self._listed(name):
            entry = self.tree.get(self._real(path))
            if self.owners.get(path, name) != name or entry is None or entry.kind is Kind.DIRECTORY:
                continue
            self.owners.pop(path, None)
            if path in conffiles and path not in unchanged:
                continue
            if not keep_links:
                for link in self._links_to_services([path]):
                    self.tree.remove(link)
            self.tree.remove(entry.path)
        self._alternatives |= dict.fromkeys(path for _, path, _ in alternatives_of(self.installed[name].fields))

    def _forget(self, name: str) -> None:
        """Remove what opkg keeps of a package beside the status file."""
        prefix = f"{INFO}/{name}."
        for path in [entry.path for entry in self.tree if entry.path.startswith(prefix)]:
            if "." not in path.removeprefix(prefix):  # else it is of a package whose name begins like this one's
                self.tree.remove(path)

    def _conffiles(self, name: str) -> dict[str, str]:
        """The files a user may change of an installed package, with the hash they came with."""
        package = self.installed.get(name)
        lines = package.fields.get("Conffiles", "").splitlines() if package else []
        return {words[0]: words[1] for line in lines if len(words := line.split()) >= 2}

    def _unchanged_conffiles(self, name: str) -> frozenset[str]:
        found = set()
        for path, known in self._conffiles(name).items():
            entry = self.tree.resolve(path)
            if entry is not None and entry.kind is Kind.FILE:
                kind = "md5" if len(known) == 32 else "sha256"
                if _digest(entry.content, kind) == known:
                    found.add(path)
        return frozenset(found)

    def _refuse_clashes(self, ipk: Ipk, *, replaceable: Container[str]) -> None:
        clashes = []
        for entry in ipk.tree:
            there = self.tree.get(self._real(entry.path))
            if there is None or f"/{entry.path}" in replaceable:
                continue
            if entry.kind is Kind.DIRECTORY:
                led = self.tree.resolve(there.path)
                clash = led is None or led.kind is not Kind.DIRECTORY
            else:
                clash = not self._is_the_same(entry, ipk.tree, there)
            if clash:
                owner = self.owners.get(f"/{entry.path}")
                clashes.append(f"/{entry.path}, which {f'is of {owner}' if owner else 'no package brought'}")
        if clashes:
            more = f" and {len(clashes) - _MOST_TOLD} more" if len(clashes) > _MOST_TOLD else ""
            raise LivebuilderError(
                f"{ipk.name} {ipk.version} would overwrite {'; '.join(clashes[:_MOST_TOLD])}{more}",
                hint="leave the package out, or take out what is in its way",
            )

    def _is_the_same(self, entry: Entry, of: RootTree, there: Entry) -> bool:
        if entry.kind in (Kind.FILE, Kind.HARDLINK) and there.kind in (Kind.FILE, Kind.HARDLINK):
            return of.content_of(entry).same_as(self.tree.content_of(there))
        return (entry.kind, entry.target, entry.device) == (there.kind, there.target, there.device)

    def _lay(self, entry: Entry) -> None:
        real = self._real(entry.path)
        there = self.tree.get(real)
        if entry.kind is Kind.DIRECTORY:
            if there is None and not is_implied(entry):
                self.tree.add(replace(entry, path=real))
            return
        if there is not None:
            self.tree.remove(real)
        target = self._real(entry.target) if entry.kind is Kind.HARDLINK else entry.target
        self.tree.add(replace(entry, path=real, target=target))

    def _conffile_hashes(self, ipk: Ipk) -> dict[str, str]:
        found = {}
        for path in ipk.conffiles:
            entry = self.tree.resolve(path)
            if entry is not None and entry.kind in (Kind.FILE, Kind.HARDLINK):
                found[path] = _digest(self.tree.content_of(entry), "md5" if self._md5 else "sha256")
        return found

    def _keep(self, path: str, old: Entry) -> None:
        """Put back a file that was there before the package; the package's own goes beside it."""
        new = self.tree.get(self._real(path))
        if new is not None and self._is_the_same(new, self.tree, old):
            return
        if new is not None:
            beside = new.path + _KEPT_SUFFIX
            self.tree.remove(new.path)
            self.tree.remove(beside)
            if new.kind is Kind.FILE:
                self.tree.add(replace(new, path=beside))
        self.tree.add(old)
        self.kept.append(path)

    def _add_accounts(self, ipk: Ipk) -> None:
        required = ipk.fields.get("Require-User", "")
        if not required:
            return
        names = {"passwd": "etc/passwd", "group": "etc/group", "shadow": "etc/shadow"}
        entries = {key: self.tree.resolve(path) for key, path in names.items()}
        texts = {
            key: entry.content.read().decode("utf-8", "surrogateescape") if entry else ""
            for key, entry in entries.items()
        }
        new = Accounts(**texts).with_required(required)
        for key, text in (("passwd", new.passwd), ("group", new.group), ("shadow", new.shadow)):
            entry = entries[key]
            if entry is None:
                self.warnings.append(f"{ipk.name} wants the user {required}, but the root has no /{names[key]}")
            elif text != texts[key]:
                self._write(entry.path, text, mode=entry.mode)

    def _links_to_services(self, paths: Iterable[str]) -> list[str]:
        names = {posixpath.basename(path) for path in paths if path.startswith("/etc/init.d/")}
        return [
            entry.path
            for entry in self.tree
            if entry.parent == "etc/rc.d" and entry.kind is Kind.SYMLINK and posixpath.basename(entry.target) in names
        ]

    def _enable(self, listed: Iterable[str], *, known: Container[str]) -> None:
        """Make the links of every service a package brings; of those `known` before, only if enabled."""
        for path in listed:
            entry = self.tree.resolve(path)
            if posixpath.dirname(path) != "/etc/init.d" or entry is None or entry.kind is not Kind.FILE:
                continue
            script = entry.content.read().decode("utf-8", "replace")
            old = self._links_to_services([path])
            if not is_service(script) or (path in known and not old):
                continue
            links = service_links(posixpath.basename(path), script)
            if links is None:
                self.warnings.append(f"{path} computes when it is to be started, so it is not enabled: {path} enable")
                continue
            for link in old:
                self.tree.remove(link)
            for link, target in links.items():
                self.tree.remove(link)
                self.tree.add(replace(symlink(link, target, source=_SOURCE), mtime=self.epoch))

    def _defer(self, ipk: Ipk) -> None:
        if needs_running(ipk):
            self.deferred.append(ipk.name)
        self.warnings += self._unrun(ipk.name, ("preinst",))

    def _unrun(self, name: str, scripts: Iterable[str]) -> Iterator[str]:
        for script in scripts:
            if any(_commands(self._control_text(name, script))):
                yield f"{name} has a {script} script, which no build runs"

    def _control_text(self, name: str, script: str) -> str:
        entry = self.tree.get(f"{INFO}/{name}.{script}")
        return entry.content.read().decode("utf-8", "replace") if entry else ""

    def _link_alternative(self, path: str) -> None:
        best: tuple[int, str] | None = None
        for package in self.installed.values():
            for priority, name, target in alternatives_of(package.fields):
                if name == path and (best is None or priority > best[0]):
                    best = (priority, target)
        real = self._real(path)
        there = self.tree.get(real)
        target = best[1] if best else _BUSYBOX[1] if self.owners.get(path) == _BUSYBOX[0] else ""
        if there is not None and there.kind is not Kind.SYMLINK:
            self.warnings.append(f"{path} is a {there.kind}, not a link, so it does not become one to {target}")
            return
        if there is not None and there.target == target:
            return
        if there is not None:
            self.tree.remove(real)
        if target:
            self.tree.add(replace(symlink(real, target, source=_SOURCE), mtime=self.epoch))


def _digest(content: Content, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    for piece in content.pieces():
        digest.update(piece)
    return digest.hexdigest()


def render_status(ipk: Ipk, *, wanted: bool, epoch: int, conffiles: Mapping[str, str]) -> str:
    """A package's paragraph of the status file; `conffiles` with the hash each came with."""
    fields = ipk.fields
    flags = [flag for flag in _FLAGS if flag in re.split(r"[ ,]", fields.get("Status", ""))]
    flags += ["user"] if wanted else []
    values = {
        "Package": ipk.name,
        "ABIVersion": " ".join(fields.get("ABIVersion", "").split()),
        "Version": ipk.version,
        **{key: _relations(fields.get(key, "")) for key in ("Depends", "Provides", "Replaces", "Conflicts")},
        "Status": f"install {','.join(flags) or 'ok'} installed",
        "Essential": "yes" if fields.get("Essential", "").lower() == "yes" else "",
        "Architecture": " ".join(fields.get("Architecture", "").split()),
        "Conffiles": "".join(f"\n {path} {known}" for path, known in conffiles.items()),
        "Installed-Time": str(epoch or ""),
        "Auto-Installed": "" if wanted else "yes",
        "Alternatives": ", ".join(f"{priority}:{path}:{to}" for priority, path, to in alternatives_of(fields)),
    }
    return "".join(f"{key}:{'' if text.startswith(chr(10)) else ' '}{text}\n" for key, text in values.items() if text)


def _relations(text: str) -> str:
    return ", ".join(" | ".join(map(str, group)) for group in parse_depends(text))


def alternatives_of(fields: Mapping[str, str]) -> list[tuple[int, str, str]]:
    """What a field `Alternatives` says: priority, the path of the link, what it shall lead to."""
    found = []
    for item in fields.get("Alternatives", "").split(","):
        match = re.fullmatch(r"\s*(-?[0-9]{1,9}):(/[^:\s]+):([^:\s]+)\s*", item)
        if match and ".." not in match[2].split("/"):
            found.append((int(match[1]), match[2], match[3]))
    return found


def needs_running(ipk: Ipk) -> bool:
    """Whether a postinst does more than what is done for it here: OpenWrt's own one does not."""
    own = list(_commands(ipk.script("postinst-pkg")))
    postinst = list(_commands(ipk.script("postinst")))
    if any("default_postinst" in line for line in postinst):
        postinst = own
    for line in postinst:
        if _LEAVES.match(line):
            return False
        if not _PASSES.match(line):
            return True
    return False


def _commands(script: str) -> Iterator[str]:
    for line in script.splitlines():
        if (bare := line.strip()) and not bare.startswith("#") and bare not in ("true", ":", "exit 0", "return 0"):
            yield bare


def render_deferred(names: Iterable[str]) -> str:
    """The script that runs the postinst of these packages once; it is sourced by /etc/init.d/boot, and then removed."""
    return f"""\
#!/bin/sh
# What these packages do when they are installed, which no build can run.
for name in {" ".join(names)}; do
	IPKG_INSTROOT=/ PKG_ROOT=/ PKG_UPGRADE=0 sh "/usr/lib/opkg/info/$name.postinst" configure ||
		logger -t livebuilder -p user.err "the postinst of $name ended with $?"
done
true
"""
