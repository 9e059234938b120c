"""Modules say what they need; packed ones too, and damaged ones are errors."""

import random

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.kernel.modinfo import is_module, module_name, read_modinfo, without_suffix
from livebuilder.unpacking import PackingError, packing_of, unpack
from tests.support.kernels import FakeModule, module_bytes, pack

EXT4 = FakeModule("kernel/fs/ext4/ext4", depends=["jbd2", "crc16"], aliases=["fs-ext4", "ext3"], softdeps=["pre: x"])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("packing", ["none", "xz", "gzip", "zstd"])
def test_modinfo_of_plain_and_packed_modules(packing: str, bits: int) -> None:
    info = read_modinfo(pack(module_bytes(EXT4, bits=bits), packing), source="ext4")
    assert info["depends"] == ("jbd2,crc16",)
    assert info["alias"] == ("fs-ext4", "ext3")
    assert info["softdep"] == ("pre: x",)
    assert info["vermagic"][0].startswith("6.1.0-test-686 ")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a kernel module"),
        (b"#!/bin/sh\n", "not a kernel module"),
        (b"\x7fELF\x01\x01", "not a kernel module"),
        (b"\x7fELF\x01\x02" + bytes(100), "not a kernel module"),
        (module_bytes(EXT4).replace(b".modinfo", b".nothing"), "not a kernel module"),
        (pack(module_bytes(EXT4), "xz")[:-30], "is damaged"),
        (pack(module_bytes(EXT4), "gzip")[:-10], "is damaged"),
        (b"\x28\xb5\x2f\xfd" + b"nonsense", "is damaged"),
    ],
)
def test_what_is_no_module_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(LivebuilderError, match=words) as refused:
        read_modinfo(data, source="some/ext4.ko")
    assert "some/ext4.ko" in refused.value.message


@pytest.mark.parametrize("packing", ["none", "xz", "gzip", "zstd"])
def test_mutated_modules_give_errors_never_tracebacks(packing: str) -> None:
    chance = random.Random(f"module {packing}")
    whole = pack(module_bytes(EXT4), packing)
    refused = 0
    for _ in range(200):
        data = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randint(1, 8)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read_modinfo(bytes(data), source="x")
        except LivebuilderError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/drivers/ata/pata-x.ko", "pata_x"),
        ("pata-x.ko.xz", "pata_x"),
        ("a/b.ko.zst", "b"),
        ("usb-storage", "usb_storage"),
        ("usb_storage", "usb_storage"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert module_name(path) == name


def test_module_paths() -> None:
    assert is_module("a/b.ko.gz")
    assert not is_module("modules.dep")
    assert without_suffix("a/b.ko.gz") == "a/b"


def test_unpacking_is_bounded() -> None:
    for packing in ("xz", "gzip", "zstd", "bzip2", "lzma"):
        bomb = pack(bytes(1_000_000), packing)
        assert packing_of(bomb) == packing
        assert unpack(bomb, most_bytes=2_000_000) == bytes(1_000_000)
        with pytest.raises(PackingError, match="unpacks to more than 1000 bytes"):
            unpack(bomb, most_bytes=1000)
