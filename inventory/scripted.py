"""A reviewer that is a script: decides through the page's HTTP API from the truth of made-up data.

It stands for people in demonstrations and tests only, and is called scripted in every decision.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.parse
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from inventory.records import canonical_geometry
from inventory.store import Inventory
from thawslump.errors import ThawslumpError
from thawslump.files import write_json
from thawslump.vector import read_outlines

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["REVIEWER", "are_slumps", "decide_all", "errs", "run"]

REVIEWER = "scripted"


def are_slumps(
    outlines: Sequence[BaseGeometry],
    truth: Sequence[BaseGeometry],
    *,
    share: float = 0.5,
    iou: float = 0.2,
) -> NDArray[np.bool_]:
    """Return which outlines are slumps, by the truth.

    One is, where at least the share `share` of its area lies on true slumps, or where its area
    and that of the true slumps it touches have an intersection over union of at least `iou`.

    Parameters
    ----------
    outlines, truth : sequence of polygons
        In one CRS. Both shares are ratios of neighbouring areas, so degrees serve as well as
        metres.
    share, iou : float

    Returns
    -------
    ndarray of bool, shape (len(outlines),)

    Examples
    --------
    >>> slump = shapely.box(0, 0, 10, 10)
    >>> are_slumps([shapely.box(0, 0, 10, 5), shapely.box(9, 0, 30, 10)], [slump]).tolist()
    [True, False]
    """
    result = np.zeros(len(outlines), dtype=bool)
    if not len(outlines) or not len(truth):
        return result
    known = np.asarray(truth, dtype=object)
    tree = shapely.STRtree(known)
    left, right = tree.query(np.asarray(outlines, dtype=object), predicate="intersects")
    for i in np.unique(left):
        slumps = shapely.union_all(known[right[left == i]])
        common = outlines[i].intersection(slumps).area
        result[i] = common >= share * outlines[i].area or common >= iou * (
            outlines[i].area + slumps.area - common
        )
    return result


def errs(candidate_id: str, seed: int, error_rate: float) -> bool:
    """Return whether the scripted reviewer errs on a candidate.

    It does where a hash of seed and candidate, as a number in 0..1, is below `error_rate`: the
    same candidates in every run, whatever the order and wherever it was interrupted.

    Examples
    --------
    >>> errs("a", 0, 0.0), errs("a", 0, 1.0)
    (False, True)
    """
    digest = hashlib.sha256(f"{seed}|{candidate_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < error_rate


class _Client:
    """Speaks to the review page's API over one kept connection."""

    def __init__(self, address: str) -> None:
        parts = urllib.parse.urlsplit(address)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"X-Thawslump-Review": "scripted"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        self._connection.request("GET" if body is None else "POST", path, data, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            said = json.loads(text or b"{}")
            raise ThawslumpError(
                f"The review server answered {answer.status} to {path}: "
                f"{said.get('error', 'no reason given')}.",
                hint=said.get("hint"),
            )
        return json.loads(text)

    def close(self) -> None:
        self._connection.close()


def decide_all(
    address: str,
    verdicts: dict[str, bool],
    *,
    round: int,
    progress: Callable[[float, str], None] = lambda fraction, words: None,
) -> int:
    """Decide every open candidate of the page's queue; return how many were.

    Parameters
    ----------
    address : str
        Of a running review server, "http://127.0.0.1:8765".
    verdicts : dict of str to bool
        Candidate -> accept.
    round : int
    progress : callable
    """
    client = _Client(address)
    try:
        left = [
            c["id"]
            for c in client.ask(f"/api/queue?round={round}")["candidates"]
            if c["state"] == "open"
        ]
        for number, identity in enumerate(left):
            # As a person does, it looks at the candidate first.
            state = client.ask(f"/api/candidates/{identity}")["state"]
            client.ask(
                "/api/decisions",
                {
                    "candidate": identity,
                    "decision": "accept" if verdicts[identity] else "reject",
                    "reviewer": REVIEWER,
                    "expected": state,
                    "request": str(uuid.uuid4()),
                },
            )
            progress((number + 1) / len(left), f"{number + 1} of {len(left)} decided (scripted)")
        return len(left)
    finally:
        client.close()


def run(item: Item, workspace: Workspace, progress: Callable[[float, str], None]) -> dict[str, int]:
    """Serve the review page in this process and decide what is open through it."""
    from inventory.review.app import Running, create_app

    round, seed = item.settings["round"], item.settings["seed"]
    inventory = Inventory(workspace.inventory)
    candidates = inventory.candidates(round)
    truth = [canonical_geometry(g) for g in read_outlines(item.inputs[1], "EPSG:4326").geometry]
    right = are_slumps([c.geometry for c in candidates], truth)
    wrong = [errs(c.candidate_id, seed, item.settings["error_rate"]) for c in candidates]
    verdicts = {
        c.candidate_id: bool(yes) != error
        for c, yes, error in zip(candidates, right, wrong, strict=True)
    }
    if any(c.state == "open" for c in candidates):
        app = create_app(workspace.root, round=round, kind="scripted")
        with Running(app) as address:
            decide_all(address, verdicts, round=round, progress=progress)
    # From the inventory, not from what this call did: equal after any number of kills.
    counts = inventory.counts(round)
    facts = {
        "candidates": len(candidates),
        "accepted": counts.get("accepted", 0),
        "rejected": counts.get("rejected", 0),
        "unsure": counts.get("unsure", 0),
        "true_slumps": int(right.sum()),
        "erred": sum(wrong),
    }
    write_json(item.outputs[0], {"round": round, "reviewer": REVIEWER, "kind": "scripted", **facts})
    return facts
