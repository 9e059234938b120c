"""livebuilder.image.sshkeys: public keys that dropbear will take, as OpenSSH makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.image.sshkeys import authorized_keys, is_key
from livebuilder.process import run


def make_key(folder: Path, kind: str = "ed25519", *words: str) -> Path:
    """A fresh key of OpenSSH's; the path of its public part."""
    run(["ssh-keygen", "-q", "-t", kind, *words, "-N", "", "-C", "owner@home", "-f", folder / kind])
    return folder / f"{kind}.pub"


@pytest.mark.parametrize(
    ("kind", "words"), [("ed25519", ()), ("rsa", ("-b", "2048")), ("ecdsa", ("-b", "256")), ("ecdsa", ("-b", "521"))]
)
def test_a_key(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    line = make_key(tmp_path, kind, *words).read_text().strip()
    assert is_key(line)
    assert authorized_keys(line) == (line,)
    assert authorized_keys(line.rpartition(" ")[0]), "the comment may be missing"
    restricted = f'no-pty,command="echo a b" {line}'
    assert authorized_keys(f"# mine\n\n{line}\r\n{restricted}\n") == (line, restricted)


def test_a_private_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = make_key(tmp_path).with_suffix("").read_text()
    with pytest.raises(ValueError, match=r"a private key.*give the public one") as refused:
        authorized_keys(text)
    assert text.splitlines()[1] not in str(refused.value)
    assert is_key(text), "it is not taken for the name of a file, which an error would repeat"


def test_what_is_no_key(tmp_path: Path) -> None:
    line = make_key(tmp_path).read_text().strip()
    kind, data, _ = line.split()
    for text, reason in (
        ("hello world", "is no public key"),
        ("# nothing\n", "there is no key in it"),
        (f"ssh-rsa {data}", "damaged or cut off"),
        (f"{kind} {data[:40]} me", "damaged or cut off"),
        (f"{kind} {data}A me", "damaged or cut off"),
        (f"ssh-dss {data}", "takes no keys of the type ssh-dss"),
    ):
        with pytest.raises(ValueError, match=reason):
            authorized_keys(text)


@pytest.mark.parametrize("text", ["~/.ssh/id_ed25519.pub", "keys/me.pub"])
def test_a_path_is_no_key(text: str) -> None:
    assert not is_key(text)
