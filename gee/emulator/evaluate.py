"""Expression graphs to values, kept while the assets that they read stay as they are."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thawslump.errors import ThawslumpError

from .budget import Budget, current, limited
from .conversion import coerce
from .errors import EngineError
from .grids import default_grid
from .image import Image
from .jsonvalues import to_json
from .payload import check_expression
from .pixels import Limits, compute_pixels, render
from .program import Program
from .values import Collection, as_feature

if TYPE_CHECKING:
    from .catalog import Asset, Catalog

__all__ = ["Evaluator", "coerce", "compute_pixels", "default_grid", "render", "to_json"]

# Chains made by iterate() nest some hundred calls deep; Python's own limit of 1000 frames
# is a guard against endless recursion, which a finite graph cannot have.
_DEPTH = 20_000
# Graphs with fewer nodes are evaluated faster than they are looked up.
_WORTH_KEEPING = 2
_VALUES_KEPT = 32
_MOST_KEPT = 16 * 2**20


class Evaluator:
    """Evaluates expression graphs against a catalogue.

    Parameters
    ----------
    catalog : Catalog
    limits : Limits, optional

    Examples
    --------
    >>> graph = {"result": "0", "values": {"0": {"functionInvocationValue": {
    ...     "functionName": "Number.add",
    ...     "arguments": {"left": {"constantValue": 1}, "right": {"constantValue": 2}}}}}}
    >>> Evaluator(None).evaluate(graph)
    3
    """

    def __init__(self, catalog: Catalog, limits: Limits | None = None) -> None:
        self.catalog = catalog
        self.limits = limits or Limits()
        self._kept: OrderedDict[bytes, tuple[Any, _Recorder, Budget]] = OrderedDict()
        self._lock = threading.Lock()
        if sys.getrecursionlimit() < _DEPTH:
            sys.setrecursionlimit(_DEPTH)

    def evaluate(self, expression: Mapping[str, Any]) -> Any:
        """Return the value of an expression graph.

        Parameters
        ----------
        expression : dict
            ``{"result": key, "values": {key: ValueNode}}``.

        Returns
        -------
        Image, Collection, Feature, Geometry, Date, list, dict, str, int, float, bool or None

        Raises
        ------
        EngineError
            With the words of Earth Engine; ``"<id>" is not implemented by this emulator``
            for functions that Earth Engine has and the emulator has not.
        """
        if not isinstance(expression, Mapping) or not isinstance(expression.get("values"), Mapping):
            raise EngineError("Expression: 'values' must hold the node that 'result' names.")
        if len(expression["values"]) < _WORTH_KEEPING or self.catalog is None:
            check_expression(expression)
            return self._run(self, expression["values"], str(expression["result"]))
        # The same graph comes again for every chunk, map tile and page.
        try:
            key = hashlib.blake2b(json.dumps(expression).encode()).digest()
        except (RecursionError, TypeError, ValueError):
            raise EngineError("The expression is nested too deeply, or is no JSON.") from None
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[1].current():
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
            return kept[0]
        check_expression(expression)
        session = copy.copy(self)
        recorder = _Recorder(self.catalog)
        session.catalog = recorder  # type: ignore[assignment]
        budget = current() or Budget()
        with limited(budget):
            value = self._run(session, expression["values"], str(expression["result"]))
        with self._lock:
            self._kept[key] = (value, recorder, budget)
            while len(self._kept) > _VALUES_KEPT:
                self._kept.popitem(last=False)
            # Elements are made when they are asked for: only now is it known what those that are
            # kept have grown to.
            for old in [k for k, v in self._kept.items() if v[2].made > _MOST_KEPT and k != key]:
                del self._kept[old]
        return value

    def check(self, expression: Mapping[str, Any]) -> None:
        """Refuse a graph that could not run: its form, its functions and their arguments.

        Raises
        ------
        EngineError
            As `evaluate` would; nothing is computed.
        """
        check_expression(expression)
        try:
            Program(self, expression["values"]).reference(str(expression["result"]))
        except RecursionError:
            raise EngineError("The expression is nested too deeply.") from None

    @staticmethod
    def _run(session: Evaluator, values: Mapping[str, Any], result: str) -> Any:
        budget = current() or Budget()
        try:
            with limited(budget):
                return Program(session, values).reference(result)[0]({})
        except RecursionError:
            raise EngineError("The expression is nested too deeply.") from None

    def to_json(self, value: Any) -> Any:
        """Return a value as ``getInfo`` shows it."""
        return to_json(value)

    def feature_pages(
        self, value: Any, page_size: int = 1000, token: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of the features of a collection, and the token of the next.

        Parameters
        ----------
        value : Collection, or what converts to one
        page_size : int
        token : str, optional
            As an earlier call returned it.

        Returns
        -------
        features : list of GeoJSON dict
        token : str or None
        """
        if value is None:
            raise EngineError("Expression does not evaluate to a collection: it is null.")
        collection = coerce("FeatureCollection", "", value, self)
        try:
            start = int(token or 0)
        except ValueError:
            raise EngineError(f"Invalid page token '{token}'.") from None
        found: list[dict[str, Any]] = []
        for number, item in enumerate(collection):
            if number < start:
                continue
            if len(found) == page_size:
                return found, str(number)
            found.append(to_json(as_feature(item)))
        return found, None

    def image_asset(self, asset_id: str) -> Image:
        """Return an image of the catalogue."""
        from .functions.loading import load

        return load(self, asset_id, -1)

    def table_asset(self, asset_id: str) -> Collection:
        """Return a table of the catalogue."""
        from .functions.loading import load_table

        return load_table(self, asset_id, None, -1)


class _Recorder:
    """The catalogue, remembering what was read of it, to tell whether that still holds."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: dict[tuple[str, str], Any] = {}

    def get(self, asset_id: str) -> Asset | None:
        """Return an asset."""
        found = self._catalog.get(asset_id)
        self._seen["get", asset_id] = _stamp(found)
        return found

    def children(self, asset_id: str = "") -> list[Asset]:
        """Return the assets below one."""
        found = self._catalog.children(asset_id)
        self._seen["children", asset_id] = [_stamp(a) for a in found]
        return found

    def features(self, asset_id: str) -> list[dict[str, Any]]:
        """Return the features of a table."""
        self.get(asset_id)
        return self._catalog.features(asset_id)

    def classifier(self, asset_id: str) -> str | None:
        """Return the text of a classifier."""
        self.get(asset_id)
        return self._catalog.classifier(asset_id)

    def current(self) -> bool:
        """Return whether everything that was read is as it was."""
        try:
            for (how, asset_id), stamp in list(self._seen.items()):
                if how == "get":
                    if _stamp(self._catalog.get(asset_id)) != stamp:
                        return False
                elif [_stamp(a) for a in self._catalog.children(asset_id)] != stamp:
                    return False
        except ThawslumpError:
            return False
        return True


def _stamp(asset: Asset | None) -> Any:
    return None if asset is None else (asset.id, asset.type, asset.updated)
