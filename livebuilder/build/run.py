"""Doing what the plan says: pack, write, read back. A run that fails leaves the output folder as it was."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from livebuilder import __version__
from livebuilder.build.plan import BuildPlan
from livebuilder.build.profiles_json import profiles_json, render_profiles_json
from livebuilder.build.report import (
    MANIFEST_JSON,
    MANIFEST_VERSION,
    PROFILES_JSON,
    SHA256SUMS,
    BuildReport,
    OutputFile,
    check_budget,
    layer_to_json,
    package_to_json,
    render_sha256sums,
)
from livebuilder.compression import GZIP
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.image.files import FILES_PATH
from livebuilder.image.initramfs import Initramfs, make_initramfs
from livebuilder.image.squashfs import SquashfsRoot
from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH, boot_files
from livebuilder.iso.plan import IMAGE_FACTS, IMAGE_FILES, IsoPlan, volume_id_for
from livebuilder.iso.writer import write_iso
from livebuilder.sources.copyright import pack_copyrights
from livebuilder.sources.installed import render_manifest
from livebuilder.staging import staged_folder, verify_writable
from livebuilder.tree import Content

# The licences of all that is on the disc; one file, for the names on it are short.
_COPYRIGHTS = "copyright.gz"


def run_build(plan: BuildPlan, *, started: float) -> BuildReport:
    """Pack, write, read back. `started` is the monotonic time the build began at.

    When the output folder already holds this very build, nothing is written.
    """
    verify_writable(plan.folder)
    with step("Packing the initramfs"):
        initramfs = make_initramfs(
            plan.early, plan.layers, plan.root, compression=plan.compression, epoch=plan.epoch, cache=plan.cache,
            image=plan.image.content if isinstance(plan.image, SquashfsRoot) else None,
        )  # fmt: skip
    files = _iso_files(plan, initramfs)
    boot_sizes = {name: content.size for name, content in files.items()}
    disc = _iso_plan(plan, files)
    manifest = _manifest(plan, initramfs, disc)
    known = _known_build(plan, manifest)
    if known is not None:
        return BuildReport(str(plan.folder), known, manifest, plan.warnings, time.monotonic() - started, unchanged=True)
    with staged_folder(plan.folder) as stage:
        with step(f"Writing {plan.folder / plan.names.iso}"):
            iso = stage / plan.names.iso
            write_iso(disc, iso)
            check_budget(iso.stat().st_size, plan.profile.output.max_size, root=plan.root, boot_files=boot_sizes)
        (stage / plan.names.kernel).write_bytes(plan.kernel.image.read())
        (stage / plan.names.initramfs).write_bytes(initramfs.data)
        described = _described(plan, manifest, stage)
        for name, text in described.texts.items():
            (stage / name).write_bytes(text)
    plan.cache.prune()
    seconds = time.monotonic() - started
    return BuildReport(str(plan.folder), described.files, manifest, plan.warnings, seconds, unchanged=False)


def _iso_files(plan: BuildPlan, initramfs: Initramfs) -> Mapping[str, Content]:
    profile = plan.profile
    facts = {
        "livebuilder": __version__,
        "name": profile.name,
        "kernel": plan.kernel.release,
        "label": profile.storage.label,
        "settle": profile.storage.settle,
        "packages": [package_to_json(package) for package in plan.packages],
        "loader_packages": [asdict(package) for package in plan.loader_packages],
    }
    files = {path: Content.from_bytes(data) for path, data in boot_files(plan.menu).items()}
    if plan.copyrights:
        files[_COPYRIGHTS] = Content.from_bytes(pack_copyrights(plan.copyrights))
    files[IMAGE_FILES] = Content.from_bytes(GZIP.compress(plan.root[FILES_PATH].content.read()))
    files[IMAGE_FACTS] = Content.from_bytes(_render_manifest(facts).encode())
    files[KERNEL_PATH] = plan.kernel.image
    files[INITRAMFS_PATH] = Content.from_bytes(initramfs.data)
    return files


def _iso_plan(plan: BuildPlan, files: Mapping[str, Content]) -> IsoPlan:
    return IsoPlan(volume_id=volume_id_for(plan.profile.name), files=files, loader=plan.loader, epoch=plan.epoch)


def _manifest(plan: BuildPlan, initramfs: Initramfs, disc: IsoPlan) -> dict[str, Any]:
    from_debian = plan.profile.kernel.source == "debian"
    return {
        "version": MANIFEST_VERSION,
        "livebuilder": __version__,
        "name": plan.profile.name,
        "profile": plan.profile.model_dump(
            mode="json",
            exclude={
                "kernel": {"image", "modules"},
                "root": {"path", "rootfs", "files"},
                "openwrt": {"feeds", "keys"},
                "initramfs": {"busybox"},
            },
        ),
        "source_date_epoch": plan.epoch,
        "kernel": {
            "release": plan.kernel.release,
            "source": plan.kernel.source if from_debian else Path(plan.kernel.source).name,
            "size": plan.kernel.image.size,
            "sha256": plan.kernel.image.sha256,
        },
        "loader": {
            "name": "ISOLINUX",
            "version": plan.loader.version,
            "packages": [asdict(package) for package in plan.loader_packages],
        },
        "initramfs": {
            "size": len(initramfs.data),
            "sha256": initramfs.sha256,
            "compression": plan.compression.name,
            "layers": [layer_to_json(layer) for layer in initramfs.layers],
        },
        "root": {
            "entries": len(plan.root),
            "bytes": plan.root.size_bytes(),
            "mode": plan.profile.root.mode,
            "image_bytes": plan.image.size_bytes,
            "image_inodes": plan.image.inodes,
        },
        "openwrt": plan.openwrt.to_json() if plan.openwrt else None,
        "disc": [
            {"path": path, "size": content.size, "sha256": content.sha256}
            for path, content in sorted(disc.all_files().items())
        ],
        "packages": [package_to_json(package) for package in plan.packages],
        "warnings": list(plan.warnings),
    }


def _render_manifest(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Described:
    """The bytes of the files that say what was built, by name, and all files that sha256sums lists."""

    texts: Mapping[str, bytes]
    files: tuple[OutputFile, ...]


def _described(plan: BuildPlan, manifest: Mapping[str, Any], folder: Path) -> _Described:
    """What is to be said of the images in `folder`."""
    images = [_output_file(folder / name) for name in (plan.names.iso, plan.names.kernel, plan.names.initramfs)]
    profiles = profiles_json(
        plan.identity,
        profile=plan.profile.name,
        names=plan.names,
        sha256={image.name: image.sha256 for image in images},
        installed=plan.installed,
        requested=plan.requested,
        kernel_release=plan.kernel.release,
        epoch=plan.epoch,
    )
    texts = {
        plan.names.packages: render_manifest(plan.installed).encode(),
        PROFILES_JSON: render_profiles_json(profiles).encode(),
        MANIFEST_JSON: _render_manifest(manifest).encode(),
    }
    listed = [*images, *(_output_text(name, text) for name, text in texts.items())]
    files = tuple(sorted(listed, key=lambda file: file.name))
    return _Described({**texts, SHA256SUMS: render_sha256sums(files).encode()}, files)


def _known_build(plan: BuildPlan, manifest: Mapping[str, Any]) -> tuple[OutputFile, ...] | None:
    """The files of the output folder when they are this very build, whole and unharmed."""
    try:
        if (plan.folder / MANIFEST_JSON).read_bytes() != _render_manifest(manifest).encode():
            return None
        described = _described(plan, manifest, plan.folder)
        same = all((plan.folder / name).read_bytes() == text for name, text in described.texts.items())
    except (OSError, LivebuilderError):
        return None
    return described.files if same else None


def _output_text(name: str, text: bytes) -> OutputFile:
    return OutputFile(name, len(text), hashlib.sha256(text).hexdigest())


def _output_file(path: Path) -> OutputFile:
    content = Content.from_file(path)
    return OutputFile(path.name, content.size, content.sha256)
