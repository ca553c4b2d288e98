"""The fields of an ONNX file: a protocol buffer of a dozen kinds, written as its public definition numbers them.

No library is needed for it (step: predict).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

IR, OPSET, ML_OPSET = 8, 17, 3
ML = "ai.onnx.ml"
FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11


def file(nodes: list[bytes], constants: list[bytes], features: int, outputs: list[bytes]) -> bytes:
    """A model file with the input X, float32 (rows × features)."""
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"foretide")
    graph += b"".join(_bytes(5, tensor) for tensor in constants) + _bytes(11, value_info("X", FLOAT, features))
    graph += b"".join(_bytes(12, output) for output in outputs)
    opsets = _bytes(8, _bytes(1, b"") + _number(2, OPSET)) + _bytes(8, _bytes(1, ML.encode()) + _number(2, ML_OPSET))
    return _number(1, IR) + _bytes(2, b"foretide") + _bytes(7, graph) + opsets


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def tensor(name: str, values: Any) -> bytes:
    """A constant of float64 numbers."""
    array = np.ascontiguousarray(values, "<f8")
    shape = b"".join(_number(1, size) for size in array.shape)
    return shape + _number(2, DOUBLE) + _bytes(8, name.encode()) + _bytes(9, array.tobytes())


def value_info(name: str, kind: int, width: int | None = None) -> bytes:
    """An input or output of so many columns; without, one value a row."""
    dims = _bytes(1, _bytes(2, b"rows")) + (_bytes(1, _number(1, width)) if width else b"")
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes, domain: str = "") -> bytes:
    """An operator."""
    body = b"".join(_bytes(1, name.encode()) for name in inputs) + b"".join(_bytes(2, o.encode()) for o in outputs)
    return body + _bytes(4, kind.encode()) + b"".join(_bytes(5, a) for a in attributes) + _bytes(7, domain.encode())


def number_attribute(name: str, value: int) -> bytes:
    """A whole number."""
    return _bytes(1, name.encode()) + _number(3, value) + _number(20, 2)


def text_attribute(name: str, value: str) -> bytes:
    """A text."""
    return _bytes(1, name.encode()) + _bytes(4, value.encode()) + _number(20, 3)


def floats_attribute(name: str, values: Any) -> bytes:
    """A list of float32 numbers."""
    array = np.asarray(values, "<f4")
    return _bytes(1, name.encode()) + _bytes(7, struct.pack(f"<{len(array)}f", *array.tolist())) + _number(20, 6)


def numbers_attribute(name: str, values: Iterable[int]) -> bytes:
    """A list of whole numbers, none below 0."""
    return _bytes(1, name.encode()) + _bytes(8, b"".join(_varint(int(value)) for value in values)) + _number(20, 7)


def texts_attribute(name: str, values: Sequence[str]) -> bytes:
    """A list of texts."""
    return _bytes(1, name.encode()) + b"".join(_bytes(9, value.encode()) for value in values) + _number(20, 8)
