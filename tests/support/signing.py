"""Keys and signatures to test with: usign's made here, byte by byte; OpenPGP ones by gpg in a home of its own."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from livebuilder.process import run


@dataclass(frozen=True)
class UsignPair:
    """A secret key with the 8 bytes that name it."""

    secret: Ed25519PrivateKey
    key_id: bytes

    @classmethod
    def of(cls, name: str) -> UsignPair:
        """The same key for the same name, every time."""
        return cls(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"\0")), name.encode().rjust(8)[:8])

    @property
    def public_bytes(self) -> bytes:
        return self.secret.public_key().public_bytes_raw()

    @property
    def public(self) -> bytes:
        """The file of the public key, as `usign -G` writes it."""
        return _two_lines(f"public key {self.key_id.hex()}", b"Ed" + self.key_id + self.public_bytes)

    def sign(self, data: bytes) -> bytes:
        """The `.sig` file of `data`, as `usign -S` writes it."""
        return _two_lines(f"signed by key {self.key_id.hex()}", b"Ed" + self.key_id + self.secret.sign(data))


def _two_lines(comment: str, record: bytes) -> bytes:
    return f"untrusted comment: {comment}\n".encode() + base64.b64encode(record) + b"\n"


def loopback_certificate(path: Path) -> Path:
    """Write a certificate for 127.0.0.1, which nobody but itself vouches for, and its key into one file."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + secret)
    return path


class GpgHome:
    """A gpg that knows nobody: it makes keys and signs with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, data: bytes | None = None) -> bytes:
        unattended = ("--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "")
        argv = ["gpg", "--homedir", str(self.folder), *unattended, *words]
        return run(argv, input_bytes=data, timeout_seconds=60).stdout_bytes

    def make_key(self, name: str, *more: str) -> None:
        self(*more, "--quick-generate-key", name, "ed25519", "sign", "1y")

    def public(self, *names: str, armour: bool = True) -> bytes:
        return self(*(["--armor"] if armour else []), "--export", *names)

    def sign(self, data: bytes, name: str, *more: str, armour: bool = True) -> bytes:
        return self(*more, *(["--armor"] if armour else []), "--local-user", name, "--detach-sign", data=data)

    def revoke(self, name: str) -> None:
        (path,) = [p for p in (self.folder / "openpgp-revocs.d").iterdir() if p.stem == self.fingerprint(name)]
        self("--import", data=path.read_bytes().replace(b":-----", b"-----"))

    def fingerprint(self, name: str) -> str:
        listing = self("--with-colons", "--list-keys", name).decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))


@contextmanager
def gpg_home() -> Iterator[GpgHome]:
    """A home for gpg, with a short path: its agent's socket has to fit into 108 bytes. The agent ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="gpg-"))
    try:
        yield GpgHome(folder)
    finally:
        run(["gpgconf", "--homedir", folder, "--kill", "all"])
        shutil.rmtree(folder)
