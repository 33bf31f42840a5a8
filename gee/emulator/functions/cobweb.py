"""Cobweb: concepts that are formed row by row.

Fisher (1987); for numbers Gennari, Langley & Fisher (1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..budget import steps

__all__ = ["Cobweb", "Concept", "utility"]

Table = np.ndarray[Any, np.dtype[Any]]


@dataclass(eq=False)
class Concept:
    """A node of the tree: how many rows, their sum and sum of squares, and its parts."""

    count: float
    total: Table
    square: Table
    parts: list[Concept] = field(default_factory=list)

    @staticmethod
    def of(row: Table) -> Concept:
        return Concept(1.0, row.copy(), row * row)

    def add(self, row: Table) -> None:
        self.count += 1
        self.total = self.total + row
        self.square = self.square + row * row

    def joined(self, other: Concept) -> Concept:
        return Concept(
            self.count + other.count, self.total + other.total, self.square + other.square
        )

    def score(self, acuity: float) -> float:
        """Return the summed reciprocal of the inputs' standard deviations."""
        mean = self.total / self.count
        deviation = np.sqrt(np.maximum(self.square / self.count - mean * mean, 0))
        return float((1 / np.maximum(deviation, acuity)).sum())


_GAUSS = 1 / (2 * np.sqrt(np.pi))


def utility(whole: Concept, parts: Sequence[Concept], acuity: float) -> float:
    """Return how much better the parts tell the inputs than the whole does, per part.

    Gennari, Langley & Fisher (1990), category utility of normal inputs.
    """
    own = whole.score(acuity)
    total = sum(p.count / whole.count * (p.score(acuity) - own) for p in parts)
    return float(_GAUSS * total / len(parts))


class Cobweb:
    """A tree of concepts, grown row by row: join a part, open one, merge two, or split one.

    Parameters
    ----------
    table : (n, inputs) float64
        In the order in which the rows are shown.
    acuity : float
        Least standard deviation.
    cutoff : float
        Category utility below which a concept is not divided further.
    """

    def __init__(self, table: Table, acuity: float, cutoff: float) -> None:
        self.acuity, self.cutoff = acuity, cutoff
        self.root = Concept.of(table[0])
        for row in steps(table[1:], 16):
            self._show(row)
        self.leaves: dict[int, int] = {}
        self._number(self.root)

    @property
    def count(self) -> int:
        """Number of clusters: the undivided concepts."""
        return len(self.leaves)

    def _number(self, node: Concept) -> None:
        if not node.parts:
            self.leaves[id(node)] = len(self.leaves)
        for part in node.parts:
            self._number(part)

    def _show(self, row: Table) -> None:
        node = self.root
        while True:
            old = Concept(node.count, node.total, node.square)
            node.add(row)
            if not node.parts:
                # A concept without parts divides into what it was and the row.
                parts = [old, Concept.of(row)]
                if utility(node, parts, self.acuity) > self.cutoff:
                    node.parts = parts
                return
            best = self._best(node, row)
            if best is None:
                return
            node = best

    def _best(self, node: Concept, row: Table) -> Concept | None:
        """Return the part to go on with; None where the row became a part of its own."""
        parts = node.parts
        own = node.score(self.acuity)
        single = len(row) / self.acuity
        joins = self._joins(parts, row)
        shares = [p.count * p.score(self.acuity) for p in parts]

        def value(total: float, count: int) -> float:
            """Return the category utility of parts whose weighted scores sum to a total."""
            return float(_GAUSS * (total / node.count - own) / count)

        total, count = sum(shares), len(parts)
        gains = [join - share for join, share in zip(joins, shares, strict=True)]
        hosts = sorted(range(count), key=lambda k: -gains[k])[:2]
        first = hosts[0]
        opened = value(total + single, count + 1)
        joined = value(total + gains[first], count)
        merged = divided = -np.inf
        union: Concept | None = None
        if count > 2:
            union = parts[first].joined(parts[hosts[1]])
            union.parts = [parts[k] for k in hosts]
            rest = total - sum(shares[k] for k in hosts)
            merged = value(rest + self._joins([union], row)[0], count - 1)
        freed = parts[first].parts
        if freed:
            inner = [p.count * p.score(self.acuity) for p in freed]
            more = [j - s for j, s in zip(self._joins(freed, row), inner, strict=True)]
            outer = [gains[k] for k in range(count) if k != first]
            divided = value(
                total - shares[first] + sum(inner) + max([*more, *outer]), count - 1 + len(freed)
            )
        top = max(opened, joined, merged, divided)
        if top <= self.cutoff:
            # Not worth dividing: the concept takes the row and is one again.
            node.parts = []
            return None
        if top == opened:
            parts.append(Concept.of(row))
            return None
        if top == joined:
            return parts[first]
        if top == merged and union is not None:
            node.parts = [p for k, p in enumerate(parts) if k not in hosts] + [union]
            return union
        node.parts = [p for k, p in enumerate(parts) if k != first] + freed
        after = self._joins(node.parts, row)
        best = [j - p.count * p.score(self.acuity) for j, p in zip(after, node.parts, strict=True)]
        return node.parts[int(np.argmax(best))]

    def _joins(self, parts: Sequence[Concept], row: Table) -> list[float]:
        """Return for every part its weighted score with the row in it."""
        out = []
        for part in parts:
            host = Concept(part.count, part.total, part.square)
            host.add(row)
            out.append(host.count * host.score(self.acuity))
        return out

    def assign(self, table: Table) -> Table:
        """Return the leaf that every row falls to, always into the best part."""
        out = np.zeros(len(table), np.int64)
        waiting: list[tuple[Concept, Table]] = [(self.root, np.arange(len(table)))]
        while waiting:
            node, rows = waiting.pop()
            if not node.parts:
                out[rows] = self.leaves[id(node)]
                continue
            best = self._choice(node, table[rows])
            for k, part in enumerate(node.parts):
                if (best == k).any():
                    waiting.append((part, rows[best == k]))
        return out

    def _choice(self, node: Concept, rows: Table) -> Table:
        """Return for every row the part whose utility is best with it."""
        base = np.array([p.count * p.score(self.acuity) for p in node.parts])
        gains = np.empty((len(rows), len(node.parts)))
        for k, part in enumerate(node.parts):
            count = part.count + 1
            total = np.zeros(len(rows))
            for j in range(rows.shape[1]):
                mean = (part.total[j] + rows[:, j]) / count
                spread = (part.square[j] + rows[:, j] ** 2) / count - mean * mean
                total += 1 / np.maximum(np.sqrt(np.maximum(spread, 0)), self.acuity)
            gains[:, k] = count * total - base[k]
        return np.argmax(gains, axis=1)
