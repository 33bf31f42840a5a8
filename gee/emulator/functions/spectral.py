"""Distances between spectra: of two images, and within the neighbourhood of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import Image, PixelsNode
from ..pixels import Array, Pixels
from ..types import DOUBLE
from .focal import KernelNode, inner
from .kernels import SHAPES, Kernel
from .registry import function

__all__ = ["distance"]

Stack = Sequence[Array]


def _shares(spectrum: Stack) -> list[Array]:
    """Return a spectrum that sums to 1; zeros where it sums to nothing."""
    total = sum(spectrum[1:], spectrum[0])
    return [np.divide(v, total, out=np.zeros(np.shape(total)), where=total != 0) for v in spectrum]


def _angle(a: Stack, b: Stack) -> Array:
    dot = sum((x * y for x, y in zip(a, b, strict=True)), np.zeros(()))
    size = np.sqrt(sum((x * x for x in a), np.zeros(()))) * np.sqrt(
        sum((y * y for y in b), np.zeros(()))
    )
    ratio = np.divide(dot, size, out=np.ones(np.shape(dot)), where=size > 0)
    return np.asarray(np.arccos(np.clip(ratio, -1, 1)))


def _divergence(a: Stack, b: Stack) -> Array:
    total = np.zeros(np.broadcast(a[0], b[0]).shape)
    for p, q in zip(_shares(a), _shares(b), strict=True):
        good = (p > 0) & (q > 0)
        ratio = np.divide(p, q, out=np.ones(np.shape(good)), where=good)
        total += np.where(good, (p - q) * np.log(np.where(good, ratio, 1)), 0)
    return total


def _square(a: Stack, b: Stack) -> Array:
    return np.asarray(sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), np.zeros(())))


def _movers(a: Stack, b: Stack) -> Array:
    total = np.zeros(np.broadcast(a[0], b[0]).shape)
    carried = np.zeros(total.shape)
    for p, q in zip(_shares(a), _shares(b), strict=True):
        carried = carried + p - q
        total += np.abs(carried)
    return total


_METRICS: dict[str, Callable[[Stack, Stack], Array]] = {
    "sam": _angle, "sid": _divergence, "sed": _square, "emd": _movers,
}  # fmt: skip


def distance(a: Stack, b: Stack, metric: str) -> Array:
    """Return the spectral distance, pixel by pixel.

    Parameters
    ----------
    a, b : sequences of equal length of float64 arrays, one per band
    metric : {"sam", "sid", "sed", "emd"}
        Angle in radians; symmetric Kullback-Leibler divergence of the spectra as shares of
        their sums, zeros left out; squared Euclidean distance; earth mover's distance between
        the shares, one band being one step.

    Examples
    --------
    >>> one, two = [np.array(1.0), np.array(0.0)], [np.array(1.0), np.array(1.0)]
    >>> round(float(distance(one, two, "sam")), 4), float(distance(one, two, "emd"))
    (0.7854, 0.5)
    """
    if metric not in _METRICS:
        raise EngineError(f"Unknown metric '{metric}': {', '.join(_METRICS)}.")
    return _METRICS[metric](a, b)


def _known(metric: str) -> None:
    if metric not in _METRICS:
        raise EngineError(f"Unknown metric '{metric}': {', '.join(_METRICS)}.")


@function("Image.spectralDistance")
def spectral_distance(first: Image, second: Image, metric: str) -> Image:
    """Return the distance between the spectra of two images, as a band 'distance'.

    Bands are paired in order; the result is valid where all of them are.
    """
    _known(metric)
    count = len(first.bands)
    if count != len(second.bands) or not count:
        raise EngineError(
            f"Images must have the same number of bands, not {count} and {len(second.bands)}."
        )

    def compute(*got: Pixels) -> Sequence[Pixels]:
        mask = None
        for pixels in got:
            mask = kernels.both(mask, pixels.mask)
        values = [p.data.astype(float) for p in got]
        return [Pixels(distance(values[:count], values[count:], metric), mask)]

    node = PixelsNode(compute, [*first.bands, *second.bands])
    return first.derived([first.bands[0].computed(DOUBLE, node).renamed("distance")])


def _chosen(
    got: Sequence[Pixels],
    weights: Array,
    centre: tuple[int, int],
    reach: int,
    metric: str,
    centroid: bool,
) -> tuple[list[list[Array]], Array | None]:
    """Return the spectra under a kernel nearest to and farthest from a spectrum, and a mask.

    The spectrum is that of the pixel, or the mean under the kernel. Pixels with a masked band
    do not take part; of equals the first, by rows, is taken.
    """
    ok: Array | None = None
    for pixels in got:
        ok = kernels.both(ok, kernels.valid(pixels.mask))
    data = [p.data.astype(float) for p in got]
    places = [(int(r) - centre[0], int(c) - centre[1]) for r, c in np.argwhere(weights != 0)]
    if not places:
        raise EngineError("The kernel has no pixels.")
    height, width = data[0].shape[0] - 2 * reach, data[0].shape[1] - 2 * reach
    whole = np.ones((height, width), bool)

    def shifted(values: Array, place: tuple[int, int]) -> Array:
        return kernels.shifted(values, *place, reach)

    if centroid:
        count = np.zeros((height, width))
        sums = [np.zeros((height, width)) for _ in data]
        for place in places:
            some = whole if ok is None else shifted(ok, place)
            count += some
            for total, values in zip(sums, data, strict=True):
                total += np.where(some, shifted(values, place), 0)
        about = [total / np.maximum(count, 1) for total in sums]
    else:
        about = [shifted(values, (0, 0)) for values in data]
    best = [np.full((height, width), np.inf), np.full((height, width), -np.inf)]
    out = [[np.zeros((height, width)) for _ in data] for _ in range(2)]
    for place in places:
        spectrum = [shifted(values, place) for values in data]
        far = distance(spectrum, about, metric)
        some = whole if ok is None else shifted(ok, place)
        for k, better in enumerate((far < best[0], far > best[1])):
            take = better & some
            best[k] = np.where(take, far, best[k])
            for target, values in zip(out[k], spectrum, strict=True):
                np.copyto(target, values, where=take)
    mask = inner(ok, reach)
    if mask is not None:
        mask = mask & np.isfinite(best[0])
    return out, mask


_SQUARE = Kernel("square", SHAPES["square"], 1, 1, "pixels")


def _morphology(name: str, which: int) -> None:
    def apply(image: Image, metric: str, kernel: Kernel | None, centroid: bool) -> Image:
        _known(metric)

        def compute(
            got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
        ) -> Sequence[Pixels]:
            found, mask = _chosen(got, weights, centre, reach, metric, centroid)
            return [
                Pixels(values.astype(p.data.dtype), mask)
                for values, p in zip(found[which], got, strict=True)
            ]

        node = KernelNode(image.bands, kernel or _SQUARE, compute)
        return image.with_bands([b.computed(b.type, node, k) for k, b in enumerate(image.bands)])

    apply.__doc__ = f"""Return the spectrum under the kernel that is {
        ("nearest to", "farthest from")[which]
    } the centre's or the mean's."""
    function(name)(apply)


_morphology("Image.spectralErosion", 0)
_morphology("Image.spectralDilation", 1)


@function("Image.spectralGradient")
def spectral_gradient(image: Image, metric: str, kernel: Kernel | None, centroid: bool) -> Image:
    """Return the distance between the spectral dilation and erosion, as a band 'distance'."""
    _known(metric)

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> Sequence[Pixels]:
        (near, far), mask = _chosen(got, weights, centre, reach, metric, centroid)
        return [Pixels(distance(near, far, metric), mask)]

    node = KernelNode(image.bands, kernel or _SQUARE, compute)
    return image.derived([image.bands[0].computed(DOUBLE, node).renamed("distance")])
