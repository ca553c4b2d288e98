"""Writes users' forests and lines as ONNX, which any runtime reads (step: predict).

The graph fills, standardizes and scores as ml.serving_models does; each field of the file is that of ml.onnx_fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from app.errors import Invalid
from ml.onnx_fields import (
    DOUBLE,
    FLOAT,
    ML,
    STRING,
    file,
    floats_attribute,
    node,
    number_attribute,
    numbers_attribute,
    tensor,
    text_attribute,
    texts_attribute,
    value_info,
)
from ml.serving import Trees
from ml.serving_models import Forest, General, Straight


def export(model: General) -> bytes:
    """The model file: input `X`, float32 (rows × features), missing ones not a number; what it says as outputs.

    Outputs: `prediction`, float32 (rows × 1), of numbers; `label`, text, and `probabilities` of classes.
    Raises Invalid for forms that are not exported.
    """
    if not isinstance(model.body, Forest | Straight):
        raise Invalid(f"{model.algorithm} has no ONNX form; random_forest and linear_regression have")
    constants = [tensor(name, getattr(model, name)) for name in ("fill", "mean", "scale")]
    nodes = [
        node("Cast", ["X"], ["wide"], number_attribute("to", DOUBLE)),
        node("IsNaN", ["wide"], ["absent"]),
        node("Where", ["absent", "fill", "wide"], ["known"]),
        node("Sub", ["known", "mean"], ["centered"]),
        node("Div", ["centered", "scale"], ["standard"]),
    ]
    if isinstance(model.body, Straight):
        constants += [tensor("weight", model.body.weight[:, None]), tensor("intercept", [model.body.intercept])]
        nodes += [
            node("MatMul", ["standard", "weight"], ["product"]),
            node("Add", ["product", "intercept"], ["sum"]),
            node("Cast", ["sum"], ["prediction"], number_attribute("to", FLOAT)),
        ]
        return file(nodes, constants, len(model.names), [value_info("prediction", FLOAT, 1)])
    nodes.append(node("Cast", ["standard"], ["narrow"], number_attribute("to", FLOAT)))
    said = "probabilities" if model.labels else "prediction"
    nodes.append(node("TreeEnsembleRegressor", ["narrow"], [said], *ensemble(model.body.trees), domain=ML))
    outputs = [value_info(said, FLOAT, max(1, len(model.labels)))]
    if model.labels:
        texts = [label if isinstance(label, str) else json.dumps(label) for label in model.labels]
        nodes.append(node("ArgMax", [said], ["index"], number_attribute("axis", 1), number_attribute("keepdims", 0)))
        keys = (numbers_attribute("keys_int64s", range(len(texts))), texts_attribute("values_strings", texts))
        nodes.append(node("LabelEncoder", ["index"], ["label"], *keys, domain=ML))
        outputs.insert(0, value_info("label", STRING))
    return file(nodes, constants, len(model.names), outputs)


def export_trees(trees: Trees, features: int) -> bytes:
    """Trees alone: input `X`, float32 (rows × features), output `mean` over the trees, float32 (rows × values)."""
    values = trees.value.reshape(len(trees.left), -1).shape[1]
    nodes = [node("TreeEnsembleRegressor", ["X"], ["mean"], *ensemble(trees), domain=ML)]
    return file(nodes, [], features, [value_info("mean", FLOAT, values)])


def ensemble(trees: Trees) -> Iterable[bytes]:
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
    yield numbers_attribute("nodes_treeids", tree)
    yield numbers_attribute("nodes_nodeids", number)
    yield numbers_attribute("nodes_featureids", trees.feature)
    yield numbers_attribute("nodes_truenodeids", left)
    yield numbers_attribute("nodes_falsenodeids", np.where(leaf, 0, left + 1))
    yield texts_attribute("nodes_modes", np.where(leaf, "LEAF", "BRANCH_LEQ").tolist())
    yield floats_attribute("nodes_values", np.where(leaf, 0, trees.threshold))
    yield numbers_attribute("target_treeids", np.repeat(tree[at], classes))
    yield numbers_attribute("target_nodeids", np.repeat(number[at], classes))
    yield numbers_attribute("target_ids", np.tile(np.arange(classes), len(at)))
    yield floats_attribute("target_weights", value[at].ravel())
    yield number_attribute("n_targets", classes)
    yield text_attribute("aggregate_function", "AVERAGE")
