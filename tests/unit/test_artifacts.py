"""Ten tamperings with a model's file or its seal, each refused before anything in it is used."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from app.domain.seals import Seal, check, seal
from app.errors import ArtifactRefused
from ml import artifacts

KEY, NAME = b"a secret of this installation ..", "tier/3/skops"


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("run by a model file",)


@pytest.fixture(scope="module")
def body() -> bytes:
    X = np.random.default_rng(0).random((50, 3))
    return artifacts.dump_estimator(RandomForestClassifier(3, random_state=0).fit(X, X[:, 0] > 0.5))


def flip(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


TAMPERINGS: dict[str, Callable[[bytes, Seal], tuple[bytes, str, bytes, Seal]]] = {
    "first byte flipped": lambda b, s: (flip(b, 0), NAME, KEY, s),
    "middle byte flipped": lambda b, s: (flip(b, len(b) // 2), NAME, KEY, s),
    "last byte cut": lambda b, s: (b[:-1], NAME, KEY, s),
    "byte added": lambda b, s: (b + b"\0", NAME, KEY, s),
    "hash recomputed without the key": lambda b, s: (
        b + b"\0",
        NAME,
        KEY,
        replace(s, sha256=seal(b + b"\0", NAME, b"").sha256),
    ),
    "sealed with another key": lambda b, s: (b, NAME, KEY, seal(b, NAME, b"another key")),
    "another version's file": lambda b, s: (b, NAME, KEY, seal(b, "tier/2/skops", KEY)),
    "hmac of another form": lambda b, s: (b, NAME, KEY, seal(b, "tier/3/packed", KEY)),
    "empty seal": lambda b, s: (b, NAME, KEY, Seal("", "")),
    "opened with another key": lambda b, s: (b, NAME, b"rotated", s),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_refused(name: str, body: bytes):
    tampered, called, key, expected = TAMPERINGS[name](body, seal(body, NAME, KEY))
    with pytest.raises(ArtifactRefused, match="foretide models train tier"):
        check(tampered, called, [key], expected)


def test_what_was_sealed_opens_and_predicts(body: bytes):
    assert check(body, NAME, [KEY], seal(body, NAME, KEY)) == 0
    assert check(body, NAME, [b"newer", KEY], seal(body, NAME, KEY)) == 1
    assert artifacts.load_estimator(body).predict_proba([[0.9, 0, 0]]).shape == (1, 2)


def test_pickles_and_foreign_types_are_refused_even_under_a_good_seal(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ArtifactRefused):
        artifacts.load_estimator(pickle.dumps(Evil()))
    with pytest.raises(ArtifactRefused, match="not trusted"):
        artifacts.load_estimator(artifacts.dump_estimator({"model": Evil()}))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(ArtifactRefused):
        artifacts.load_estimator(empty.getvalue())
    assert "run by" not in capsys.readouterr().out
