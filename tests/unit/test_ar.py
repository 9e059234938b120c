import io

import pytest

from livebuilder import ar
from livebuilder.errors import LivebuilderError
from tests.support.damage import changed
from tests.support.debs import ar_of

SOUND = ar_of([("debian-binary", b"2.0\n"), ("odd/", b"123"), ("last", b"")])


def test_members_and_where_they_are() -> None:
    stream = io.BytesIO(SOUND)
    found = []
    for member in ar.members(stream, source="x"):
        stream.seek(member.offset)
        found.append((member.name, stream.read(member.size)))
    assert found == [("debian-binary", b"2.0\n"), ("odd", b"123"), ("last", b"")]


@pytest.mark.parametrize(
    "data", [b"", b"!<arch>", b"PK\3\4", SOUND[:40], changed(SOUND, 8 + 48, b"-1  "), changed(SOUND, 8 + 58, b"xx")]
)
def test_damage_is_told_by_name(data: bytes) -> None:
    with pytest.raises(LivebuilderError, match=r"^the package"):
        list(ar.members(io.BytesIO(data), source="the package"))
