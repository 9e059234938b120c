"""What `--json` prints is what docs/json.md says, key by key, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.builds import BuiltImage, SmallSystem, run_command, run_main
from tests.support.documents import assert_documented, chapters, documented
from tests.support.kernels import bzimage
from tests.support.profiles import RELEASE, SNAPSHOT, anonymous

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]


def test_every_chapter_has_a_test() -> None:
    tests = Path(__file__).parents[1]
    others = (
        "vm/test_command.py",
        "vm/test_routing.py",
        "init/test_init_boot.py",
        "tools/test_openwrt_fetch.py",
        "tools/test_usb_command.py",
    )
    pages = (Path(__file__), *(tests / name for name in others))
    text = "".join(page.read_text() for page in pages)
    for chapter in chapters():
        assert f'assert_documented("{chapter}"' in text


def test_a_key_too_many_or_too_few_is_seen() -> None:
    keys = documented("doctor")
    assert keys["healthy"] == "boolean"
    output = {"healthy": True, "needs": [], "install": {}}
    install = {key for key in keys if key.startswith("install.")}
    assert_documented("doctor", output, may_lack=install)
    for wrong in ({**output, "new": 1}, {"healthy": True, "install": {}}, {**output, "healthy": "yes"}):
        with pytest.raises(AssertionError):
            assert_documented("doctor", wrong, may_lack=install)


@pytest.mark.network
def test_build(default_image: BuiltImage, small_system: SmallSystem, tmp_path: Path) -> None:
    outputs = [
        run_main("build", "--offline", "--json", *words, "-o", tmp_path / name)
        for name, words in (("one", []), ("two", [small_system.profile]))
    ]
    assert [outcome.status for outcome in outputs] == [0, 0]
    assert_documented("build", *(outcome.json for outcome in outputs))
    assert_documented("manifest.json", *(outcome.json["manifest"] for outcome in outputs))
    for outcome, name in zip(outputs, ("one", "two"), strict=True):
        assert outcome.json["manifest"] == json.loads((tmp_path / name / "manifest.json").read_text())
    assert default_image.manifest == outputs[0].json["manifest"]


@pytest.mark.network
def test_profiles_json(default_image: BuiltImage) -> None:
    ours = json.loads((default_image.folder / "profiles.json").read_text())
    assert_documented("profiles.json", *map(anonymous, (ours, RELEASE, SNAPSHOT)))


@pytest.mark.network
def test_dry_run(small_system: SmallSystem, tmp_path: Path) -> None:
    words = ("build", "--offline", "--dry-run", "--json", "-o", tmp_path)
    assert_documented("build --dry-run", run_main(*words).json, run_main(*words, small_system.profile).json)


@pytest.mark.network
def test_inspect(default_image: BuiltImage, tmp_path: Path) -> None:
    data = bytearray(default_image.iso.read_bytes())
    data[0x1F0:0x200] = bytes(16)  # no boot sector
    (tmp_path / "broken.iso").write_bytes(data)
    isos = [run_main("inspect", path, "--json").json for path in (default_image.iso, tmp_path / "broken.iso")]
    assert isos[1]["hybrid"] is None and isos[1]["findings"]
    assert_documented("inspect, of an ISO", *isos)
    initramfs = run_main("inspect", default_image.initramfs, "--json").json
    assert_documented("inspect, of an initramfs", initramfs)
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    kernels = [run_main("inspect", path, "--json").json for path in (default_image.kernel, tmp_path / "vmlinuz")]
    assert [kernel["embedded_config"] for kernel in kernels] == [False, True]
    assert_documented("inspect, of a kernel", *kernels)


def test_usb_image(tmp_path: Path) -> None:
    plan = run_main("usb", "image", tmp_path / "x.img", "--dry-run", "--json").json
    made = run_main("usb", "image", tmp_path / "x.img", "--json").json
    assert_documented("usb image", made)
    assert_documented("usb image", plan, may_lack={"path", "used_bytes"})
    assert {*plan, "path", "used_bytes"} == {*made}


def test_doctor(tmp_path: Path) -> None:
    outcome = run_command("doctor", "--json", env={"PATH": str(tmp_path)})
    assert outcome.status == 1
    assert_documented("doctor", outcome.json, run_main("doctor", "--json").json)
