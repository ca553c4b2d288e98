"""Estimators as skops bytes, opened only if they hold nothing but trusted types (step: learn).

Packed arrays travel by npz (ml/serving.py); nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
from typing import Any

from app.errors import ArtifactRefused

# Types beyond those that skops itself knows as harmless: the node arrays of fitted trees.
TRUSTED_TYPES: tuple[str, ...] = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)


def dump_estimator(estimator: Any) -> bytes:
    """A fitted estimator as skops bytes."""
    import skops.io

    body: bytes = skops.io.dumps(estimator)
    return body


def load_estimator(body: bytes) -> Any:
    """The estimator of skops bytes whose seal was checked. Raises ArtifactRefused for any type that is not trusted."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(body, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ArtifactRefused(f"the model file holds types that are not trusted: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ArtifactRefused("the bytes are not a skops model") from error
