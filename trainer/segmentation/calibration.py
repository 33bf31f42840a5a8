"""Probabilities that mean what they say: one temperature on the log odds of the ensemble's mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from trainer.susceptibility.calibration import Reliability, reliability

__all__ = [
    "RANGE",
    "calibrated",
    "figure",
    "fit_temperature",
    "reliability",
    "table",
    "temperature_interval",
]

RANGE = (0.2, 5.0)
"""Temperatures that are tried. Above 1 the mean was too sure, below 1 not sure enough."""

_NEAR = 1e-6  # how near to 0 and 1 a probability is taken; as in `predict.tempered`

Floats = NDArray[np.floating[Any]]


def _odds(probability: Floats) -> NDArray[np.float64]:
    held = np.clip(np.asarray(probability, dtype="float64"), _NEAR, 1 - _NEAR)
    return np.asarray(np.log(held) - np.log1p(-held))


def calibrated(probability: Floats, temperature: float) -> NDArray[np.float64]:
    """Divide the log odds of a probability by a temperature.

    Parameters
    ----------
    probability : ndarray of float
        NaN stays NaN.
    temperature : float
        1 changes nothing. The order of pixels and the value 0.5 stay whatever it is.

    Examples
    --------
    >>> calibrated(np.array([0.5, 0.9, np.nan]), 2.0).round(3).tolist()
    [0.5, 0.75, nan]
    """
    if temperature == 1:
        return np.asarray(probability, dtype="float64")
    return np.asarray(0.5 * (1 + np.tanh(0.5 * _odds(probability) / temperature)))


def fit_temperature(probability: Floats, labels: NDArray[np.uint8]) -> float:
    """Return the temperature under which the labels are most likely.

    Parameters
    ----------
    probability : ndarray of float, shape (n,)
        Finite, of pixels that the model was not chosen on.
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not.

    Returns
    -------
    float
        Within `RANGE`; 1 where the labels are of one class only, from which nothing can be
        learned.

    References
    ----------
    Guo et al. 2017, On calibration of modern neural networks.

    Examples
    --------
    >>> labels = np.array([1, 1, 1, 0], dtype="uint8")  # three of four: odds of 3, not of 9
    >>> round(fit_temperature(np.full(4, 0.9), labels), 3)
    2.0
    """
    truth = labels == 1
    odds = _odds(probability)
    return _likeliest(odds[truth], odds[~truth])


def _likeliest(
    of_slumps: NDArray[np.float64],
    of_others: NDArray[np.float64],
    slumps: NDArray[np.float64] | None = None,
    others: NDArray[np.float64] | None = None,
) -> float:
    """Return the temperature that suits log odds of slumps and of other pixels, weighted."""
    weight = [
        np.ones(len(of)) if given is None else given
        for of, given in ((of_slumps, slumps), (of_others, others))
    ]
    if not weight[0].sum() or not weight[1].sum():
        return 1.0
    signed, times = np.concatenate([of_slumps, -of_others]), np.concatenate(weight)

    def loss(logarithm: float) -> float:
        return float(times @ np.logaddexp(0.0, -signed * np.exp(-logarithm)) / times.sum())

    low, high = np.log(RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def temperature_interval(
    probability: Floats,
    labels: NDArray[np.uint8],
    blocks: NDArray[np.integer[Any]],
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval of the temperature from drawing whole blocks with replacement.

    Parameters
    ----------
    probability, labels
        As for `fit_temperature`.
    blocks : ndarray of int, shape (n,)
        Block of each pixel: neighbours are alike, and single pixels would look like far more
        evidence than they are.
    resamples, level, seed
        Draws, share of them inside the interval, seed of the draws.

    Returns
    -------
    (low, high) : float

    Notes
    -----
    Log odds are binned to a tenth for the draws: their cost does not grow with the pixels.
    """
    edges = np.arange(-14.0, 14.05, 0.1)
    middle = (edges[:-1] + edges[1:]) / 2
    place = np.clip(np.digitize(_odds(probability), edges) - 1, 0, len(middle) - 1)
    _, number = np.unique(blocks, return_inverse=True)
    count = int(number.max()) + 1
    slump = (labels == 1).astype("int64")
    cells = np.bincount(
        (number * 2 + slump) * len(middle) + place, minlength=count * 2 * len(middle)
    ).reshape(count, 2 * len(middle))
    random = np.random.default_rng(seed)
    draws = random.multinomial(count, np.full(count, 1 / count), size=resamples) @ cells
    found = [
        _likeliest(
            middle, middle, row[len(middle) :].astype(float), row[: len(middle)].astype(float)
        )
        for row in draws
    ]
    tail = 50 * (1 - level)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def table(found: Reliability) -> dict[str, Any]:
    """Return a reliability as JSON values: ece, brier, and the bins that hold pixels."""
    bins = [
        {"said": round(float(s), 6), "came": round(float(c), 6), "pixels": int(n)}
        for s, c, n in zip(found.said, found.came, found.count, strict=True)
        if n
    ]
    return {"ece": found.error, "brier": found.brier, "bins": bins}


def figure(before: Reliability, after: Reliability | None, title: str) -> str:
    """Return a reliability plot as SVG: what was said against what came true, with the pixels.

    Parameters
    ----------
    before, after : Reliability
        Without and with the temperature.
    title : str
        What the pixels are.
    """
    import io
    import re

    import matplotlib
    from matplotlib.figure import Figure

    from thawslump.figures import INK

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "thawslump",
        "font.size": 10.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK["grey"],
        "axes.labelcolor": INK["ink"],
        "xtick.color": INK["grey"],
        "ytick.color": INK["grey"],
        "xtick.labelcolor": INK["ink"],
        "ytick.labelcolor": INK["ink"],
        "text.color": INK["ink"],
        "legend.frameon": False,
    }
    kinds = [
        ("as the members say it" if after else "mean of the members", before, "vermilion", "s")
    ]
    if after is not None:
        kinds.append(("with the temperature", after, "blue", "o"))
    with matplotlib.rc_context(settings):
        drawn = Figure(figsize=(4.8, 5.4), layout="constrained")
        above, below = drawn.subplots(2, 1, height_ratios=(3, 1), sharex=True)
        above.plot([0, 1], [0, 1], color=INK["grey"], linewidth=1, linestyle="--", zorder=1)
        for number, (name, found, colour, marker) in enumerate(kinds):
            some = found.count > 0
            above.plot(
                found.said[some],
                found.came[some],
                color=INK[colour],
                marker=marker,
                markersize=5,
                linewidth=1.6,
                label=f"{name}: ECE {found.error:.4f}, Brier {found.brier:.4f}",
            )
            width = 0.4 / len(found.count)
            middle = (np.arange(len(found.count)) + 0.3 + 0.4 * number) / len(found.count)
            below.bar(middle[some], found.count[some], width, color=INK[colour])
        above.set(ylabel="share that is slump", ylim=(-0.02, 1.02), xlim=(0, 1))
        below.set(yscale="log", ylabel="pixels", xlabel="probability said")
        above.grid(color=INK["rule"], linewidth=0.6)
        above.set_axisbelow(True)
        drawn.suptitle(title, fontsize=10)
        above.legend(loc="upper left", fontsize=8.5)
        out = io.StringIO()
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.S)
