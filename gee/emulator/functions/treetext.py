"""Decision trees written as text.

The text is R's: one node per line, ``number) split n deviance value (probabilities) *``, the
children of node k being 2k and 2k + 1, the star at leaves. Classifier.explain writes it,
Classifier.decisionTree and Classifier.decisionTreeEnsemble read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EngineError

__all__ = ["TextTree", "parse_trees", "plain", "write_tree"]

Table = np.ndarray[Any, np.dtype[Any]]

_NODE = re.compile(
    r"^\s*(?P<number>\d+)\)\s*"
    r"(?:root\b|(?P<name>[^\s<>=]+)\s*(?P<sign><=|>=|<|>|==|=)\s*(?P<at>[^\s*(]+))"
    r"(?P<rest>[^(*]*)(?P<chances>\([^)]*\))?\s*(?P<leaf>\*)?\s*$"
)
_SIGNS = {
    "<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater,
}  # fmt: skip
_DEEPEST = 2048


@dataclass(frozen=True)
class _Line:
    """One node: what leads to it from its parent, and what it answers."""

    name: str | None
    sign: str
    at: tuple[float, ...]
    value: float
    chances: tuple[float, ...]

    def holds(self, values: Table) -> Table:
        """Return for which values this child is taken."""
        if self.sign in _SIGNS:
            found: Table = _SIGNS[self.sign](values, self.at[0])
            return found
        return np.isin(values, self.at)


@dataclass(frozen=True)
class TextTree:
    """A tree that was read from text.

    Parameters
    ----------
    nodes : dict of int to node
        By number: the children of k are 2k and 2k + 1.

    Examples
    --------
    >>> tree = parse_trees("1) root 9 9 9\\n 2) b<=3 5 0 7 *\\n 3) b>3 4 0 8 *")[0]
    >>> tree.predict(np.array([[1.0], [4.0]]), ["b"]).tolist()
    [7.0, 8.0]
    """

    nodes: dict[int, _Line]

    @property
    def names(self) -> list[str]:
        """Inputs in the order in which the tree first asks for them."""
        found: dict[str, None] = {}
        for number in sorted(self.nodes):
            name = self.nodes[number].name
            if name is not None:
                found.setdefault(name)
        return list(found)

    @property
    def leaves(self) -> list[_Line]:
        """Nodes without children."""
        return [
            line
            for number, line in self.nodes.items()
            if 2 * number not in self.nodes and 2 * number + 1 not in self.nodes
        ]

    def leaf_of(self, table: Table, names: Sequence[str]) -> Table:
        """Return the place among `nodes` of the leaf of every row of a table; -1: none."""
        columns = {name: k for k, name in enumerate(names)}
        # Node numbers double with every level: those of deep trees fit in no integer of 64 bits.
        places = {number: k for k, number in enumerate(self.nodes)}
        out = np.full(len(table), -1, np.int64)
        waiting = [(1, np.arange(len(table)))]
        while waiting:
            number, rows = waiting.pop()
            children = [c for c in (2 * number, 2 * number + 1) if c in self.nodes]
            if not children:
                out[rows] = places[number]
                continue
            for child in children:
                if not len(rows):
                    break
                line = self.nodes[child]
                taken = line.holds(table[rows, columns[line.name or ""]])
                if taken.any():
                    waiting.append((child, rows[taken]))
                rows = rows[~taken]
        return out

    def predict(self, table: Table, names: Sequence[str]) -> Table:
        """Return the value of every row; NaN where no branch leads on."""
        values = [line.value for line in self.nodes.values()]
        return np.asarray([*values, np.nan])[self.leaf_of(table, names)]

    def chances(self, table: Table, names: Sequence[str]) -> Table:
        """Return the probabilities written at the leaves: (n, classes)."""
        rows = [line.chances for line in self.nodes.values()]
        width = max(len(row) for row in rows)
        filled = [row if len(row) == width else (np.nan,) * width for row in rows]
        return np.asarray([*filled, (np.nan,) * width])[self.leaf_of(table, names)]


def parse_trees(text: str) -> list[TextTree]:
    """Return the trees of a text: a new one begins at every root.

    Parameters
    ----------
    text : str
        Lines that are no node (headings, blank lines) are passed over.

    Returns
    -------
    list of TextTree

    Raises
    ------
    EngineError
        No root, a node without its parent, a split or a value that cannot be read.
    """
    found: list[dict[int, _Line]] = []
    for line in text.splitlines():
        if not re.match(r"^\s*\d+\)", line):
            continue
        number, node = _parsed(line)
        if number == 1:
            found.append({1: node})
            continue
        if not found:
            raise EngineError(
                f"A decision tree must begin with its root, not with '{line.strip()}'."
            )
        if number // 2 not in found[-1]:
            raise EngineError(f"Node {number} of the decision tree has no parent {number // 2}.")
        found[-1][number] = node
    if not found:
        raise EngineError("The text holds no decision tree: no line begins with '1) root'.")
    return [TextTree(nodes) for nodes in found]


def _parsed(line: str) -> tuple[int, _Line]:
    match = _NODE.match(line)
    if match is None:
        raise EngineError(f"Cannot read the decision tree's node '{line.strip()}'.")
    number = int(match["number"])
    if (match["name"] is None) != (number == 1) or number < 1 or number.bit_length() > _DEEPEST:
        raise EngineError(f"Cannot read the decision tree's node '{line.strip()}'.")
    try:
        numbers = [float(v) for v in match["rest"].split()]
        at = tuple(float(v) for v in match["at"].split(",")) if match["name"] else ()
        inside = (match["chances"] or "()")[1:-1].replace(",", " ")
        chances = tuple(float(v) for v in inside.split())
    except ValueError:
        raise EngineError(f"Cannot read the decision tree's node '{line.strip()}'.") from None
    if not numbers:
        raise EngineError(f"The decision tree's node '{line.strip()}' has no value.")
    # n, deviance, value; where a tool writes fewer the value is the last.
    value = numbers[2] if len(numbers) > 2 else numbers[-1]
    return number, _Line(match["name"], match["sign"] or "", at, value, chances)


def write_tree(
    children: tuple[Table, Table],
    feature: Table,
    threshold: Table,
    samples: Table,
    impurity: Table,
    values: Table,
    classes: Sequence[float],
    names: Sequence[str],
) -> str:
    """Return the text of a tree given by its arrays, one entry per node.

    Parameters
    ----------
    children : (left, right) arrays of int
        -1 at leaves.
    feature, threshold, samples, impurity : arrays
    values : (nodes, classes) probabilities, or (nodes, 1) means
    classes : sequence of float
        Empty for regression.
    names : sequence of str
    """
    kind = "loss, yval, (yprob)" if classes else "deviance, yval"
    lines = [f"n= {int(samples[0])}", "", f"node), split, n, {kind}",
             "      * denotes terminal node", ""]  # fmt: skip
    waiting = [(0, 1, "root", 0)]
    while waiting:
        node, number, split, depth = waiting.pop()
        count, row = int(samples[node]), values[node]
        if classes:
            best = int(np.argmax(row))
            shown = f"{count - round(float(row[best]) * count)} {plain(classes[best])}"
            shown += f" ({' '.join(plain(round(float(v), 12)) for v in row)})"
        else:
            shown = f"{plain(float(impurity[node]) * count)} {plain(float(row[0]))}"
        left, right = int(children[0][node]), int(children[1][node])
        leaf = "" if left >= 0 else " *"
        lines.append(f"{'  ' * depth}{number}) {split} {count} {shown}{leaf}")
        if left >= 0:
            name, at = names[int(feature[node])], plain(float(threshold[node]))
            waiting.append((right, 2 * number + 1, f"{name}>{at}", depth + 1))
            waiting.append((left, 2 * number, f"{name}<={at}", depth + 1))
    return "\n".join(lines) + "\n"


def plain(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
