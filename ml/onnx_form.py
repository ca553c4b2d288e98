"""Writes users' forests and lines as ONNX, which any runtime reads (step: predict).

An ONNX file is a protocol buffer of a dozen kinds of fields, written here as they stand in the format's public
definition: no library is needed. The graph fills, standardizes and scores as ml.serving_models does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from app.errors import Invalid
from ml.serving import Trees
from ml.serving_models import Forest, General, Straight

IR, OPSET, ML_OPSET = 8, 17, 3
ML = "ai.onnx.ml"
FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11


def export(model: General) -> bytes:
    """The model file: input `X`, float32 (rows × features), missing ones not a number; what it says as outputs.

    Outputs: `prediction`, float32 (rows × 1), of numbers; `label`, text, and `probabilities` of classes.
    Raises Invalid for forms that are not exported.
    """
    if not isinstance(model.body, Forest | Straight):
        raise Invalid(f"{model.algorithm} has no ONNX form; random_forest and linear_regression have")
    constants = [_tensor(name, getattr(model, name)) for name in ("fill", "mean", "scale")]
    nodes = [
        _node("Cast", ["X"], ["wide"], _int("to", DOUBLE)),
        _node("IsNaN", ["wide"], ["absent"]),
        _node("Where", ["absent", "fill", "wide"], ["known"]),
        _node("Sub", ["known", "mean"], ["centered"]),
        _node("Div", ["centered", "scale"], ["standard"]),
    ]
    if isinstance(model.body, Straight):
        constants += [_tensor("weight", model.body.weight[:, None]), _tensor("intercept", [model.body.intercept])]
        nodes += [
            _node("MatMul", ["standard", "weight"], ["product"]),
            _node("Add", ["product", "intercept"], ["sum"]),
            _node("Cast", ["sum"], ["prediction"], _int("to", FLOAT)),
        ]
        return _file(nodes, constants, len(model.names), [_value("prediction", FLOAT, 1)])
    nodes.append(_node("Cast", ["standard"], ["narrow"], _int("to", FLOAT)))
    said = "probabilities" if model.labels else "prediction"
    nodes.append(_node("TreeEnsembleRegressor", ["narrow"], [said], *_trees(model.body.trees), domain=ML))
    outputs = [_value(said, FLOAT, max(1, len(model.labels)))]
    if model.labels:
        texts = [label if isinstance(label, str) else json.dumps(label) for label in model.labels]
        nodes.append(_node("ArgMax", [said], ["index"], _int("axis", 1), _int("keepdims", 0)))
        keys = (_ints("keys_int64s", range(len(texts))), _strings("values_strings", texts))
        nodes.append(_node("LabelEncoder", ["index"], ["label"], *keys, domain=ML))
        outputs.insert(0, _value("label", STRING))
    return _file(nodes, constants, len(model.names), outputs)


def export_trees(trees: Trees, features: int) -> bytes:
    """Trees alone: input `X`, float32 (rows × features), output `mean` over the trees, float32 (rows × values)."""
    values = trees.value.reshape(len(trees.left), -1).shape[1]
    nodes = [_node("TreeEnsembleRegressor", ["X"], ["mean"], *_trees(trees), domain=ML)]
    return _file(nodes, [], features, [_value("mean", FLOAT, values)])


def _trees(trees: Trees) -> Iterable[bytes]:
    """The ensemble's attributes: of each node its tree, its number there, and where it leads."""
    ends = np.append(trees.roots[1:], len(trees.left))
    sizes = ends - trees.roots
    tree = np.repeat(np.arange(len(sizes)), sizes)
    first = np.repeat(trees.roots, sizes)
    number = np.arange(len(trees.left)) - first
    leaf = trees.left == np.arange(len(trees.left))
    left = np.where(leaf, 0, trees.left - first)
    value = trees.value.reshape(len(leaf), -1)
    classes = value.shape[1]
    at = np.flatnonzero(leaf)
    yield _ints("nodes_treeids", tree)
    yield _ints("nodes_nodeids", number)
    yield _ints("nodes_featureids", trees.feature)
    yield _ints("nodes_truenodeids", left)
    yield _ints("nodes_falsenodeids", np.where(leaf, 0, left + 1))
    yield _strings("nodes_modes", np.where(leaf, "LEAF", "BRANCH_LEQ").tolist())
    yield _floats("nodes_values", np.where(leaf, 0, trees.threshold))
    yield _ints("target_treeids", np.repeat(tree[at], classes))
    yield _ints("target_nodeids", np.repeat(number[at], classes))
    yield _ints("target_ids", np.tile(np.arange(classes), len(at)))
    yield _floats("target_weights", value[at].ravel())
    yield _int("n_targets", classes)
    yield _text_attribute("aggregate_function", "AVERAGE")


def _file(nodes: list[bytes], constants: list[bytes], features: int, outputs: list[bytes]) -> bytes:
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"foretide")
    graph += b"".join(_bytes(5, tensor) for tensor in constants) + _bytes(11, _value("X", FLOAT, features))
    graph += b"".join(_bytes(12, output) for output in outputs)
    opsets = _bytes(8, _bytes(1, b"") + _number(2, OPSET)) + _bytes(8, _bytes(1, ML.encode()) + _number(2, ML_OPSET))
    return _number(1, IR) + _bytes(2, b"foretide") + _bytes(7, graph) + opsets


# -- The kinds of fields, by their numbers in the format's definition


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


def _tensor(name: str, values: Any) -> bytes:
    array = np.ascontiguousarray(values, "<f8")
    shape = b"".join(_number(1, size) for size in array.shape)
    return shape + _number(2, DOUBLE) + _bytes(8, name.encode()) + _bytes(9, array.tobytes())


def _value(name: str, kind: int, width: int | None = None) -> bytes:
    """An input or output of so many columns; without, one value a row."""
    dims = _bytes(1, _bytes(2, b"rows")) + (_bytes(1, _number(1, width)) if width else b"")
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes, domain: str = "") -> bytes:
    body = b"".join(_bytes(1, name.encode()) for name in inputs) + b"".join(_bytes(2, o.encode()) for o in outputs)
    return body + _bytes(4, kind.encode()) + b"".join(_bytes(5, a) for a in attributes) + _bytes(7, domain.encode())


def _int(name: str, value: int) -> bytes:
    return _bytes(1, name.encode()) + _number(3, value) + _number(20, 2)


def _text_attribute(name: str, value: str) -> bytes:
    return _bytes(1, name.encode()) + _bytes(4, value.encode()) + _number(20, 3)


def _floats(name: str, values: Any) -> bytes:
    array = np.asarray(values, "<f4")
    return _bytes(1, name.encode()) + _bytes(7, struct.pack(f"<{len(array)}f", *array.tolist())) + _number(20, 6)


def _ints(name: str, values: Iterable[int]) -> bytes:
    return _bytes(1, name.encode()) + _bytes(8, b"".join(_varint(int(value)) for value in values)) + _number(20, 7)


def _strings(name: str, values: Sequence[str]) -> bytes:
    return _bytes(1, name.encode()) + b"".join(_bytes(9, value.encode()) for value in values) + _number(20, 8)
