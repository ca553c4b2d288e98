"""Writes models of tiers as ONNX: forests, boosted trees, lines and their blends (step: predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml.onnx_fields import DOUBLE, FLOAT, ML, file, node, number_attribute, tensor, value_info
from ml.onnx_form import ensemble
from ml.serving import SMALLEST_P, Blend, Calibration, Floats, Linear, Packed, Trees

APART = 1e-9
"""Two knots of a calibration at one place are moved apart by so much."""


def export_packed(model: Packed) -> bytes:
    """The model file: input `X`, float32 (rows × names); outputs `p_raw`, `p_hot`, float32 (rows × 1)."""
    graph = Graph()
    wide = graph.add("Cast", ["X"], number_attribute("to", DOUBLE))
    raw, p = graph.scored(model, wide)
    for name, found in (("p_raw", raw), ("p_hot", p)):
        graph.nodes.append(node("Cast", [found], [name], number_attribute("to", FLOAT)))
    outputs = [value_info(name, FLOAT, 1) for name in ("p_raw", "p_hot")]
    return file(graph.nodes, graph.constants, len(model.names), outputs)


@dataclass
class Graph:
    """Operators and constants, each named by its number."""

    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)

    def add(self, kind: str, inputs: Sequence[str], *attributes: bytes, domain: str = "") -> str:
        """An operator; the name of what it gives."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, [name], *attributes, domain=domain))
        return name

    def constant(self, values: Any) -> str:
        """Numbers; their name."""
        name = f"c{len(self.constants)}"
        self.constants.append(tensor(name, values))
        return name

    def scored(self, model: Packed, wide: str) -> tuple[str, str]:
        """The raw score and the calibrated probability of each row, (rows × 1)."""
        if isinstance(model.body, Blend):
            odds = [self._logit(self.scored(part, wide)[1]) for part in model.body.parts]
            total = odds[0] if len(odds) == 1 else self.add("Sum", odds)
            raw = self.add("Sigmoid", [self.add("Div", [total, self.constant([float(len(odds))])])])
        elif isinstance(model.body, Linear):
            raw = self._line(model.body, wide, len(model.names))
        else:
            raw = self._trees(model.body, boosted=model.kind == "boosted")
        return raw, self._calibrated(raw, model.calibration)

    def _trees(self, trees: Trees, *, boosted: bool) -> str:
        mean = self.add("TreeEnsembleRegressor", ["X"], *ensemble(trees), domain=ML)
        mean = self.add("Cast", [mean], number_attribute("to", DOUBLE))
        if not boosted:
            return mean
        total = self.add("Mul", [mean, self.constant([float(len(trees.roots))])])
        return self.add("Sigmoid", [self.add("Add", [total, self.constant([trees.base])])])

    def _line(self, form: Linear, wide: str, width: int) -> str:
        """Of ln(1 + x); columns that the line does not read weigh nothing."""
        weight, shift = np.zeros((width, 1)), form.intercept
        for column, mean, scale, each in zip(form.column, form.mean, form.scale, form.weight, strict=True):
            weight[column] += each / scale
            shift -= each * mean / scale
        logs = self.add("Log", [self.add("Add", [wide, self.constant([1.0])])])
        product = self.add("MatMul", [logs, self.constant(weight)])
        return self.add("Sigmoid", [self.add("Add", [product, self.constant([shift])])])

    def _logit(self, p: str) -> str:
        inside = self.add("Min", [self.add("Max", [p, self.constant([SMALLEST_P])]), self.constant([1 - SMALLEST_P])])
        return self.add("Log", [self.add("Div", [inside, self.add("Sub", [self.constant([1.0]), inside])])])

    def _calibrated(self, raw: str, curve: Calibration) -> str:
        """Straight lines between knots, as a start and a change of slope at each knot."""
        x = _apart(curve.x)
        slope = np.diff(curve.p) / np.diff(x)
        change = np.concatenate(([slope[0]], np.diff(slope)))
        inside = self.add("Min", [self.add("Max", [raw, self.constant([x[0]])]), self.constant([x[-1]])])
        past = self.add("Relu", [self.add("Sub", [inside, self.constant(x[None, :-1])])])
        risen = self.add("MatMul", [past, self.constant(change[:, None])])
        return self.add("Add", [risen, self.constant([curve.p[0]])])


def _apart(x: Floats) -> Floats:
    """Knots that rise strictly."""
    found = np.array(x, float)
    for number in range(len(found) - 2, -1, -1):
        found[number] = min(found[number], found[number + 1] - APART)
    return found
