"""The licences travel on the disc, and every Debian binary on it names its source."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.iso.loader import find_loader
from livebuilder.sources.copyright import host_copyrights, host_packages, pack_copyrights
from tests.support.builds import BuiltImage


def test_the_same_text_is_packed_once_under_all_its_names() -> None:
    packed = pack_copyrights({"b": b"MIT\n", "a": b"MIT\n", "c": b"GPL\n"})
    assert gzip.decompress(packed) == b"==== a, b ====\n\nMIT\n\n\n==== c ====\n\nGPL\n"
    assert packed == pack_copyrights({"c": b"GPL\n", "a": b"MIT\n", "b": b"MIT\n"})


def test_the_owner_of_the_loader_is_who_dpkg_lists_it_for(tmp_path: Path) -> None:
    loader = find_loader()
    files = [loader.isolinux_bin, *loader.modules.values()]
    packages = host_packages(files, cache=Cache(tmp_path))
    assert packages, "the loader of this machine comes from packages"
    for file in files:
        lists = [Path(f"/var/lib/dpkg/info/{package.name}.list").read_text().splitlines() for package in packages]
        assert any(str(file) in lines for lines in lists)
    assert all(package.source == "syslinux" and package.source_version for package in packages)
    assert host_packages(files, cache=Cache(tmp_path)) == packages
    assert host_copyrights(packages).keys() == {package.name for package in packages}


def test_a_file_of_no_package_has_no_owner(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert host_packages([tmp_path / "mine"], cache=Cache(tmp_path / "cache")) == ()


@pytest.mark.network
def test_every_package_on_the_disc_has_its_licence_and_its_source(default_image: BuiltImage) -> None:
    disc = default_image.folder / "router.iso"
    text = gzip.decompress(
        subprocess.run(["bsdtar", "-xOf", disc, "copyright.gz"], capture_output=True, check=True).stdout
    ).decode("utf-8", "replace")
    manifest = json.loads((default_image.folder / "manifest.json").read_text())
    headings = " ".join(line for line in text.splitlines() if line.startswith("==== "))
    packages = [*manifest["packages"], *manifest["loader"]["packages"]]
    assert len(packages) > 10
    for package in packages:
        assert package["source"], package
        assert package["source_version"], package
        assert package["name"] in headings.replace(",", " ").split(), package["name"]
