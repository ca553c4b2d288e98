"""Scores packed trees by compiled loops: for workers and the bench, never in the API (step: predict).

A node is 16 bytes, so that one line of the cache answers a step; leaves lead to themselves, so that a step needs no
branch; eight paths are walked side by side, since each step waits for the memory of the one before; and a block of
rows goes down one tree while that lies in the cache, then down the next. The sums equal those of ml.serving.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ml.serving import Floats, Matrix, Trees

NODE = np.dtype([("threshold", "f4"), ("feature", "u4"), ("left", "u4"), ("leaf", "u4")])
LEAF = 1 << 31
"""Stands in the number of a leaf, so that eight nodes are known to be leaves by one comparison."""
BLOCK_BYTES, LEAST_BLOCK = 2**21, 512
"""Bytes of the rows that go down a tree before the next one is looked at, and the least number of them.

So few that they stay in the shared cache, so many that a large tree is brought near seldom.
"""
STRIDE = 4
"""Steps between two looks at whether all eight paths have ended."""
LANES = 8
U = np.uint64
"""Indexes are unsigned: a signed one could count from the end, which each step would look for."""


class Compiled:
    """Trees laid out for the compiled loops. The first call of a process loads them from numba's cache: some 0.3 s."""

    def __init__(self, trees: Trees) -> None:
        """Copies the nodes in the order of their paths; leaves' values stand apart, in the same order."""
        place = _places(trees.left, trees.roots)
        came_from = np.argsort(place)
        is_leaf = (trees.left == np.arange(len(trees.left)))[came_from]
        self.nodes = np.zeros(len(trees.left), NODE)
        self.nodes["threshold"], self.nodes["feature"] = trees.threshold[came_from], trees.feature[came_from]
        self.nodes["left"] = place[trees.left[came_from]]
        self.nodes["leaf"] = np.where(is_leaf, np.cumsum(is_leaf) - 1 + LEAF, 0)
        self.value = np.ascontiguousarray(trees.value[came_from][is_leaf].reshape(is_leaf.sum(), -1), float)
        self.roots = place[trees.roots].astype(np.uint64)
        self.depths = _depths(trees)
        self.outputs = self.value.shape[1]
        self.columns = int(trees.feature.max()) + 1

    def sums(self, X: Matrix, threads: int = 1) -> Floats:
        """Of each row the sum of the leaves that it falls into: (rows × outputs). X: (rows × features).

        Raises ValueError where X has too few columns: the loops look at no bounds.
        """
        x = np.ascontiguousarray(X, np.float32)
        if x.ndim != 2 or x.shape[1] < self.columns:
            raise ValueError(f"the trees read {self.columns} columns; there are {x.shape[1:]}")
        out = np.zeros((len(x), self.outputs))
        if len(x) == 1:
            _one_row(self.nodes, self.roots, self.depths, self.value, x.ravel(), out)
            return out
        if threads == 1 or len(x) < threads * LEAST_BLOCK:
            self._block(x, out)
            return out
        edges = np.linspace(0, len(x), threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:  # the loops hold no lock of the interpreter
            list(pool.map(lambda start, end: self._block(x[start:end], out[start:end]), edges[:-1], edges[1:]))
        return out

    def _block(self, x: Matrix, out: Floats) -> None:
        block = max(LEAST_BLOCK, BLOCK_BYTES // (4 * x.shape[1]))
        _rows(self.nodes, self.roots, self.depths, self.value, x.ravel(), x.shape[1], block, out)


def leaf_sums(trees: Trees, X: Matrix) -> Floats:
    """As ml.serving takes them, for some thousand rows at least: the trees are laid out anew, which takes a while."""
    return Compiled(trees).sums(X)


def _depths(trees: Trees) -> npt.NDArray[np.int64]:
    """Of each tree the steps to its deepest leaf."""
    depths = np.zeros(len(trees.roots), np.int64)
    tree = np.arange(len(trees.roots))
    nodes = trees.roots.astype(np.int64)
    while len(nodes):
        inner = trees.left[nodes] != nodes
        nodes, tree = nodes[inner], tree[inner]
        depths[tree] += 1
        left = trees.left[nodes].astype(np.int64)
        nodes, tree = np.concatenate((left, left + 1)), np.concatenate((tree, tree))
    return depths


@njit(cache=True)
def _places(left, roots) -> Any:  # type: ignore[no-untyped-def]  # numba finds the types, here and below
    """Where each node goes: siblings side by side, the children of the larger one right after them.

    So most steps of a deep tree stay in the line of the cache that the step before has brought.
    """
    size = np.ones(len(left), np.int64)
    for node in range(len(left) - 1, -1, -1):  # children stand after their parents
        if left[node] != node:
            size[node] += size[left[node]] + size[left[node] + 1]
    place, waiting = np.empty(len(left), np.int64), np.empty(len(left), np.int64)
    next_place = 0
    for root in roots:
        place[root] = next_place
        next_place += 1
        waiting[0], count = root, 1
        while count:
            count -= 1
            child = left[waiting[count]]
            if child != waiting[count]:
                place[child], place[child + 1] = next_place, next_place + 1
                next_place += 2
                smaller = child + 1 if size[child] > size[child + 1] else child
                waiting[count], waiting[count + 1] = smaller, 2 * child + 1 - smaller
                count += 2
    return place


@njit(inline="always")
def _step(nodes, x, base, at) -> Any:  # type: ignore[no-untyped-def]
    node = nodes[at]
    return U(node.left) + U(x[base + U(node.feature)] > node.threshold)


@njit(inline="always")
def _ended(nodes, a, b, c, d) -> Any:  # type: ignore[no-untyped-def]
    return (nodes[a].leaf & nodes[b].leaf & nodes[c].leaf & nodes[d].leaf) >= LEAF


@njit(inline="always")
def _add(value, node, out, row) -> None:  # type: ignore[no-untyped-def]
    leaf = U(node.leaf) - U(LEAF)
    to = U(row)
    if out.shape[1] == 1:
        out[to, U(0)] += value[leaf, U(0)]
    else:
        for output in range(out.shape[1]):
            out[to, U(output)] += value[leaf, U(output)]


@njit(cache=True, nogil=True)
def _one_row(nodes, roots, depths, value, x, out) -> None:  # type: ignore[no-untyped-def]
    """A row down eight trees side by side; the last ones twice where their number is no multiple of eight."""
    at = np.empty(LANES, np.uint64)
    trees = len(roots)
    for first in range(0, trees, LANES):
        count = min(LANES, trees - first)
        deepest = 0
        for lane in range(LANES):
            tree = first + min(lane, count - 1)
            at[lane] = roots[tree]
            deepest = max(deepest, depths[tree])
        a, b, c, d, e, f, g, h = at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]
        for _ in range(deepest):
            a, b = _step(nodes, x, U(0), a), _step(nodes, x, U(0), b)
            c, d = _step(nodes, x, U(0), c), _step(nodes, x, U(0), d)
            e, f = _step(nodes, x, U(0), e), _step(nodes, x, U(0), f)
            g, h = _step(nodes, x, U(0), g), _step(nodes, x, U(0), h)
        at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7] = a, b, c, d, e, f, g, h
        for lane in range(count):
            _add(value, nodes[at[lane]], out, 0)


@njit(cache=True, nogil=True)
def _rows(nodes, roots, depths, value, x, features, block, out) -> None:  # type: ignore[no-untyped-def]
    """Blocks of rows down one tree after the other, eight rows side by side."""
    rows, width = len(out), U(features)
    for start in range(0, rows, block):
        end = min(rows, start + block)
        for tree in range(len(roots)):
            root, depth = roots[tree], depths[tree]
            row = start
            while row + LANES <= end:
                base = U(row) * width
                a = b = c = d = e = f = g = h = root
                for step in range(0, depth, STRIDE):
                    for _ in range(min(STRIDE, depth - step)):
                        a, b = _step(nodes, x, base, a), _step(nodes, x, base + width, b)
                        c, d = _step(nodes, x, base + U(2) * width, c), _step(nodes, x, base + U(3) * width, d)
                        e, f = _step(nodes, x, base + U(4) * width, e), _step(nodes, x, base + U(5) * width, f)
                        g, h = _step(nodes, x, base + U(6) * width, g), _step(nodes, x, base + U(7) * width, h)
                    if _ended(nodes, a, b, c, d) and _ended(nodes, e, f, g, h):
                        break
                _add(value, nodes[a], out, row)
                _add(value, nodes[b], out, row + 1)
                _add(value, nodes[c], out, row + 2)
                _add(value, nodes[d], out, row + 3)
                _add(value, nodes[e], out, row + 4)
                _add(value, nodes[f], out, row + 5)
                _add(value, nodes[g], out, row + 6)
                _add(value, nodes[h], out, row + 7)
                row += LANES
            for left_over in range(row, end):
                at = root
                for _ in range(depth):
                    at = _step(nodes, x, U(left_over) * width, at)
                _add(value, nodes[at], out, left_over)
