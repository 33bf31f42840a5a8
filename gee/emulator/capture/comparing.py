"""Which rules agree with a recording, and where others differ."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kit import Kit, Request
from .recording import Answer, Service

__all__ = ["Finding", "InProcess", "compare", "differences"]

_SHOWN = 3  # differences that are quoted
_EXTENT = 2048  # pixels of a side of a stored image, of which a corner is known


@dataclass(frozen=True, slots=True)
class Finding:
    """What a recording says about one request.

    Attributes
    ----------
    request : Request
    verdict : str
        "agrees", "differs", "not promised" (it differs where nothing is promised), or
        "unanswered" (the recording has no answer to this request).
    words : str
        Where and by how much.
    """

    request: Request
    verdict: str
    words: str = ""


class InProcess(Service):
    """The emulator, without a server, over an empty catalogue and parts of a recording."""

    def __init__(self, root: Path) -> None:
        from ..protocol import Endpoint

        self._endpoint = Endpoint(root)
        super().__init__("in-process", "local-project", _Local(self._endpoint))

    def close(self) -> None:
        """Close its files."""
        self._endpoint.close()


class _Local:
    """Posts to an endpoint of this process."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def post(self, url: str, **options: Any) -> Any:
        from ..protocol import Request as Plain

        path = url[url.index("/v1/") :]
        answer = self._endpoint.handle(Plain("POST", path, body=options["data"]))
        return _Response(answer.status, answer.body, dict(answer.headers))


@dataclass(frozen=True, slots=True)
class _Response:
    status_code: int
    content: bytes
    headers: dict[str, str]


def compare(recording: Mapping[str, Any], kit: Kit | None = None) -> list[Finding]:
    """Ask the emulator what the recorded service was asked, and return what is found.

    Parameters
    ----------
    recording : dict
        As `record` returns it.
    kit : Kit, optional

    Returns
    -------
    list of Finding
        One for every request of the kit, in its order.
    """
    kit = kit or Kit.stored()
    answers = recording["answers"]
    out = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _put_assets(root, kit, answers)
        service = InProcess(root)
        try:
            for request in kit.requests.values():
                theirs = answers.get(request.id)
                if theirs is None or theirs.get("request") != request.digest:
                    out.append(Finding(request, "unanswered"))
                else:
                    out.append(_judged(request, theirs, service))
        finally:
            service.close()
    return out


def _judged(request: Request, theirs: Answer, service: Service) -> Finding:
    if request.compare["kind"] == "recorded":
        return Finding(request, "agrees")
    found = list(differences(request, theirs, service.send(request)))
    if not found:
        return Finding(request, "agrees")
    words = "; ".join(found[:_SHOWN])
    if len(found) > _SHOWN:
        words += f"; and {len(found) - _SHOWN} more"
    required = request.compare["kind"] != "report"
    return Finding(request, "differs" if required else "not promised", words)


def _put_assets(root: Path, kit: Kit, answers: Mapping[str, Answer]) -> None:
    """Store what was recorded of assets, so that the emulator can read it."""
    import numpy as np

    from ..catalog import BandData, Catalog

    catalog = Catalog(root, writable=True)
    for asset in kit.assets.values():
        bands = answers.get(asset.request, {}).get("pixels")
        if bands and asset.band in bands:
            stored = bands[asset.band]
            known = np.array(stored["rows"], dtype=stored["type"])
            # In the corner of an image that is large enough to have a pyramid.
            array = np.zeros((_EXTENT, _EXTENT), known.dtype)
            array[: known.shape[0], : known.shape[1]] = known
            valid = np.zeros(array.shape, bool)
            valid[: known.shape[0], : known.shape[1]] = True
            a, b, c, d, e, f = asset.transform
            band = BandData(
                asset.band, array, asset.crs, (a, b, c, d, e, f),
                mask=valid, pyramiding=asset.pyramiding,
            )  # fmt: skip
            catalog.put_image(asset.id, [band])


def differences(request: Request, theirs: Answer, ours: Answer) -> Iterator[str]:
    """Yield in words where two answers to a request differ.

    Parameters
    ----------
    request : Request
    theirs, ours : dict
        "status" and one of "value", "pixels" and "error".
    """
    kind = request.compare["kind"]
    refused = [answer["status"] != 200 for answer in (theirs, ours)]
    if any(refused):
        told = [answer.get("error", "an answer") for answer in (theirs, ours)]
        if refused[0] != refused[1] or told[0] != told[1]:
            yield f"theirs: {told[0]!r}, ours: {told[1]!r}"
        return
    if kind == "error":
        return  # both answer what was thought to be refused
    name = "pixels" if "pixels" in theirs else "value"
    left, right = theirs[name], ours[name]
    if kind == "spread":
        yield from _spread(request.compare, left, right)
    elif kind == "partition":
        yield from _partition(left, right)
    else:
        rtol = float(request.compare.get("rtol", 0.0))
        atol = float(request.compare.get("atol", 0.0))
        yield from _unlike(left, right, name, rtol, atol)


def _unlike(left: Any, right: Any, where: str, rtol: float, atol: float) -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            if key not in left:
                yield f"{where}.{key}: only ours"
            elif key not in right:
                yield f"{where}.{key}: only theirs"
        for key in sorted(left.keys() & right.keys()):
            yield from _unlike(left[key], right[key], f"{where}.{key}", rtol, atol)
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            yield f"{where}: {len(left)} of theirs, {len(right)} of ours"
            return
        for n, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _unlike(one, other, f"{where}[{n}]", rtol, atol)
    elif _number(left) and _number(right):
        if not math.isclose(left, right, rel_tol=rtol, abs_tol=atol):
            yield f"{where}: theirs {left!r}, ours {right!r}"
    elif left != right or isinstance(left, bool) != isinstance(right, bool):
        yield f"{where}: theirs {left!r}, ours {right!r}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(value: Any) -> Iterator[float]:
    if _number(value):
        yield float(value)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key != "type":
                yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)


def _spread(expected: Mapping[str, Any], left: Any, right: Any) -> Iterator[str]:
    counts = []
    for name, answer in (("theirs", left), ("ours", right)):
        values = list(_numbers(answer))
        counts.append(len(values))
        if not values:
            yield f"{name}: no numbers"
            continue
        low, high, mean = min(values), max(values), sum(values) / len(values)
        if low < expected["low"] or high > expected["high"]:
            yield f"{name}: from {low:g} to {high:g}, not within what was expected"
        if abs(mean - expected["mean"]) > expected["tolerance"]:
            yield f"{name}: mean {mean:g}, expected {expected['mean']:g}"
    if counts[0] != counts[1]:
        yield f"{counts[0]} numbers of theirs, {counts[1]} of ours"


def _partition(left: Any, right: Any) -> Iterator[str]:
    """Compare which pixels belong together; -1 stands for none."""
    if left.keys() != right.keys():
        yield f"bands {sorted(left)} of theirs, {sorted(right)} of ours"
        return
    for band in left:
        pairs = [
            (one, other)
            for rows in zip(left[band]["rows"], right[band]["rows"], strict=True)
            for one, other in zip(*rows, strict=True)
        ]
        for one, other in set(pairs):
            if (one == -1) != (other == -1):
                yield f"{band}: theirs {one!r}, ours {other!r}"
        together = set(pairs)
        if len(together) != len({p[0] for p in together}) or len(together) != len(
            {p[1] for p in together}
        ):
            yield f"{band}: other pixels belong together"
