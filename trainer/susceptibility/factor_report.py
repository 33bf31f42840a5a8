"""What can be said of the factors before any model: collinearity, worth, and what would go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer

from trainer.susceptibility.analysis import frequency_ratio
from trainer.susceptibility.bins import (
    FLOOR,
    chimerge,
    discretise,
    information_gain,
    information_gain_ratio,
)
from trainer.susceptibility.models import design, feature_factors, feature_names
from trainer.susceptibility.preparation import FactorSelection
from trainer.susceptibility.selection import correlations, exact_sums, generalised_inflation

__all__ = ["SECTORS", "TOLERANCE", "VIF", "as_text", "factor_report"]

VIF, TOLERANCE, PEARSON = 10.0, 0.1, 0.7
"""Usual limits: He et al. 2024 (VIF below 10, tolerance above 0.1), Zhang et al. 2023 (0.7)."""
SECTORS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
"""Of directions, 45 degrees each, the first from 337.5 to 22.5."""

NOTES = (
    "vif is GVIF^(1 / df): of a factor with several columns, such as aspect (sine and cosine) or "
    "classes, comparable with the VIF of one with a single column, whose df is 1.",
    "Collinearity is that of the samples with missing values filled by the mean, as in the models; "
    "intervals, gain and frequency ratios are those of the samples with a value.",
    "Frequency ratios compare with all samples, of which negatives are a chosen share: above 1 "
    "slumps are over-represented among the samples, not in the area.",
    "What is dropped here shows what the limits do on all samples; models choose again in each "
    "fold from what they learn from, and their choice may differ.",
)


def factor_report(
    factors: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    classes: Mapping[str, Sequence[int]] | None = None,
    *,
    vif: float | None = VIF,
    pearson: float | None = None,
    max_intervals: int = 8,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """Describe factors by their samples.

    Parameters
    ----------
    factors : mapping of name to ndarray of float32, shape (n,)
        As in the rasters; NaN where missing.
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not.
    classes : mapping of name to sequence of int, optional
        Of the factors that hold classes.
    vif, pearson : float, optional
        Limits that the models are given; None for no such rule.
    max_intervals, alpha
        Of ChiMerge.

    Returns
    -------
    dict of JSON values
        - ``factors``: one object per factor in the order given. ``vif`` is GVIF^(1 / df), null
          where it is infinite (``exact_sum`` is then true) or the factor is constant.
        - ``correlations``: largest \\|r\\| of any of their columns, of the factors that vary.
        - ``exact_sums``: factors that follow from each other exactly.
        - ``dropped`` by the limits given, and ``dropped_at_usual_limits``
          (`preparation.FactorSelection.dropped_`).

    Raises
    ------
    DataError
        No factor varies, or there are no more samples than columns.

    Examples
    --------
    >>> dice = np.random.default_rng(0)
    >>> slope = dice.normal(size=100).astype(np.float32)
    >>> found = factor_report({"slope": slope, "TRI": slope + 1}, slope > 0)
    >>> found["exact_sums"], [row["gain_ratio_rank"] for row in found["factors"]]
    ([['slope', 'TRI']], [1, 2])
    """
    classes = dict(classes or {})
    names = list(factors)
    positive = np.asarray(labels).ravel().astype(np.uint8)
    columns = feature_factors(names, classes)
    of_classes = tuple(n for n, factor in enumerate(columns) if factor in classes)
    fill = SimpleImputer(strategy="mean", keep_empty_features=True)
    plain = design(factors, classes)
    filled = fill.fit_transform(plain)

    def dropped(vif: float | None, pearson: float | None) -> list[dict[str, Any]]:
        chosen = FactorSelection(columns, of_classes, vif, pearson, max_intervals, alpha)
        return list(chosen.fit(filled, positive).dropped_)

    found = dropped(vif, pearson)
    usual = dropped(VIF, PEARSON)
    varies = np.ptp(filled, axis=0) > 0
    here = [name for name in names if any(varies[n] for n, f in enumerate(columns) if f == name)]
    chosen = [n for name in here for n, f in enumerate(columns) if f == name and varies[n]]
    parts = [[k for k, n in enumerate(chosen) if columns[n] == name] for name in here]
    inflation = generalised_inflation(filled[:, chosen], parts)
    alike = correlations(filled[:, chosen], parts)
    rows = []
    for name in names:
        own = classes.get(name)
        row: dict[str, Any] = {
            "name": name,
            "kind": _kind(name, own),
            "columns": list(feature_names([name], classes)),
            "missing_share": float(np.mean(~np.isfinite(factors[name]))),
            "constant": name not in here,
            "vif": None, "gvif": None, "df": None, "tolerance": None, "exact_sum": False,
            "most_like": None,
        }  # fmt: skip
        if name in here:
            k = here.index(name)
            value = float(inflation.comparable[k])
            finite = bool(np.isfinite(value))
            row |= {
                "vif": value if finite else None,
                "gvif": float(inflation.generalised[k]) if finite else None,
                "df": int(inflation.df[k]),
                "tolerance": 1.0 / value,
                "exact_sum": not finite,
            }
            others = np.delete(np.arange(len(here)), k)
            if others.size:
                nearest = int(others[np.argmax(alike[k, others])])
                row["most_like"] = {"name": here[nearest], "r": float(alike[k, nearest])}
        # Where slope is 0 a direction has neither sine nor cosine.
        level = (plain[:, [n for n, f in enumerate(columns) if f == name]] == 0).all(axis=1)
        rows.append(row | _worth(name, factors[name], level, positive, own, max_intervals, alpha))
    order = sorted(range(len(rows)), key=lambda k: -rows[k]["gain_ratio"])
    for rank, k in enumerate(order):
        rows[k]["gain_ratio_rank"] = rank + 1
    return {
        "samples": int(positive.size),
        "slumps": int(positive.sum()),
        "factors": rows,
        "correlations": {"factors": here, "r": alike.tolist()},
        "exact_sums": [
            [here[k] for k in together] for together in exact_sums(filled[:, chosen], parts)
        ],
        "limits": {
            "vif": vif, "pearson": pearson, "usual_vif": VIF, "usual_tolerance": TOLERANCE,
            "usual_pearson": PEARSON, "chimerge_intervals": max_intervals, "chimerge_alpha": alpha,
        },
        "dropped": found,
        "dropped_at_usual_limits": usual,
        "notes": list(NOTES),
    }  # fmt: skip


def _kind(name: str, classes: Sequence[int] | None) -> str:
    if classes is not None:
        return "classes"
    return "direction" if len(feature_names([name])) > 1 else "number"


def _worth(
    name: str,
    values: NDArray[np.float32],
    level: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    classes: Sequence[int] | None,
    max_intervals: int,
    alpha: float,
) -> dict[str, Any]:
    """Return intervals, gain and frequency ratios of one factor, of the samples with a value."""
    flat = np.asarray(values, np.float64).ravel()
    known = np.isfinite(flat)
    flat, of = flat[known], labels[known]
    cuts: tuple[float, ...] = ()
    if _kind(name, classes) == "classes":
        codes = flat.astype(np.int64)
    elif _kind(name, classes) == "direction":
        codes = np.floor((flat + 22.5) / 45.0).astype(np.int64) % 8
        codes[level[known]] = -1
    else:
        if np.unique(of).size == 2:
            cuts = chimerge(flat, of, max_intervals, alpha, floor=FLOOR)
        codes = discretise(flat, cuts)
    worth: dict[str, Any] = {"gain": 0.0, "gain_ratio": 0.0, "intervals": []}
    if _kind(name, classes) == "number":
        worth["cut_points"] = list(cuts)
    if not flat.size:
        return worth
    worth |= {
        "gain": information_gain(codes, of),
        "gain_ratio": information_gain_ratio(codes, of),
    }
    if of.any():
        ratios = frequency_ratio(codes, of)
        worth["intervals"] = [
            {
                **_interval(_kind(name, classes), code, cuts),
                "samples": int(cells),
                "slumps": int(inside),
                "frequency_ratio": float(ratio),
            }
            for code, cells, inside, ratio in zip(
                ratios.codes, ratios.cells, ratios.slumps, ratios.ratio, strict=True
            )
        ]
    return worth


def _interval(kind: str, code: int, cuts: Sequence[float]) -> dict[str, Any]:
    if kind == "classes":
        return {"class": code}
    if kind == "direction":
        return {"sector": SECTORS[code] if code >= 0 else "flat"}
    return {
        "above": cuts[code - 1] if code else None,
        "up_to": cuts[code] if code < len(cuts) else None,
    }


def as_text(report: Mapping[str, Any]) -> str:
    """Return a report as a table in plain text, with what would be dropped and why.

    Examples
    --------
    >>> slope = np.arange(50, dtype=np.float32)
    >>> print(as_text(factor_report({"slope": slope}, slope > 20)))  # doctest: +ELLIPSIS
    factor    VIF  tolerance  most like  gain ratio  rank  missing
    slope    1.00      1.000          -      1.0000     1    0.0 %
    Nothing is dropped by these limits.
    """
    lines = [["factor", "VIF", "tolerance", "most like", "gain ratio", "rank", "missing"]]
    for row in report["factors"]:
        like = row["most_like"]
        inflation = "constant" if row["constant"] else "infinite"
        lines.append(
            [
                row["name"],
                inflation if row["vif"] is None else _number(row["vif"]),
                "-" if row["tolerance"] is None else f"{row['tolerance']:.3f}",
                f"{like['name']} {like['r']:.2f}" if like else "-",
                f"{row['gain_ratio']:.4f}",
                str(row["gain_ratio_rank"]),
                f"{100 * row['missing_share']:.1f} %",
            ]
        )
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.rjust(size) if k else cell.ljust(size)
            for k, (cell, size) in enumerate(zip(line, wide, strict=True))
        ).rstrip()
        for line in lines
    ]
    if report.get("made_up"):
        text.insert(0, "Made-up data: nothing here is about a real place.")
    text += [f"Dropped: {_because(each)}" for each in report["dropped"]]
    if not report["dropped"]:
        text.append("Nothing is dropped by these limits.")
    told = {each["factor"] for each in report["dropped"]}
    text += [
        f"At the usual limits (VIF {VIF:g}, |r| {PEARSON:g}) also: {_because(each)}"
        for each in report["dropped_at_usual_limits"]
        if each["factor"] not in told
    ]
    return "\n".join(text)


def _because(each: Mapping[str, Any]) -> str:
    others = " and ".join(each["because_of"]) or "others"
    if each["rule"] == "constant":
        return f"{each['factor']}, which is the same in all samples."
    if each["rule"] == "pearson":
        return f"{each['factor']}, |r| = {each['value']:.2f} with {others}, which tells more."
    if each["value"] is None:
        return f"{each['factor']}, an exact sum of {others}."
    return f"{each['factor']}, VIF {_number(each['value'])}; most like {others}."


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}"
