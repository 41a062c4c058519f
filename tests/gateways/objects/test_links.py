"""A link is of one object, by one name, until one moment, and nobody else can make one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from veza.domain.errors import Forbidden, NotFound
from veza.gateways.objects.links import Linked, Links

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
KEY = "ab" * 32
SECRET = b"a secret of thirty-two bytes long."


def links(at: datetime = NOON, secret: bytes = SECRET) -> Links:
    return Links(secret, "https://veza.example", lambda: at)


def signed(until: datetime = NOON + timedelta(minutes=5)) -> str:
    url = links().sign(KEY, filename="Träck 1.wav", content_type="audio/wav", until=until)
    assert url.startswith("https://veza.example/api/v1/objects/")
    return url.rpartition("/")[2]


def test_a_link_says_what_it_was_signed_for() -> None:
    assert links().read(signed()) == Linked(KEY, "Träck 1.wav", "audio/wav")


def test_a_link_holds_until_its_moment_and_not_a_second_longer() -> None:
    token = signed(NOON + timedelta(minutes=5))
    assert links(NOON + timedelta(seconds=299)).read(token).key == KEY
    with pytest.raises(Forbidden) as late:
        links(NOON + timedelta(minutes=5)).read(token)
    assert late.value.code == "link_expired"


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "é.é.é"])
def test_what_is_no_link_is_not_found(token: str) -> None:
    with pytest.raises(NotFound):
        links().read(token)


def test_a_link_signed_by_another_is_not_found() -> None:
    other = links(secret=b"another secret of thirty-two bytes").sign(
        KEY, filename="a", content_type="a/b", until=NOON + timedelta(minutes=5)
    )
    with pytest.raises(NotFound):
        links().read(other.rpartition("/")[2])


def test_another_token_under_the_same_secret_is_no_link() -> None:
    told = {"key": KEY, "name": "a", "type": "a/b", "exp": int(NOON.timestamp()) + 300}
    for key, algorithm in ((SECRET, "HS256"), ("", "none")):
        with pytest.raises(NotFound):
            links().read(jwt.encode(told, key, algorithm))


def test_no_part_of_a_link_can_be_changed() -> None:
    head, body, signature = signed().split(".")
    for forged in (f"{head}.{body[:-2]}AA.{signature}", f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}."):
        with pytest.raises(NotFound):
            links().read(forged)
