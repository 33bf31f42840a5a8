"""Step `susceptibility-samples`: cells that stand for slumps, and cells that stand for none.

Rasters are read by windows, twice (thrice for negatives from similar ground): labels for the
slumps, then labels and factors together. Memory holds one window, the slumps' cells and the
samples; what is drawn depends on the seed, not on the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump import raster
from thawslump.errors import DataError
from trainer.susceptibility import draws, ground, inputs, models, samples, seams, table
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.ground import Place
from trainer.susceptibility.likeness import Likeness, standardised_differences
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["draw", "run"]

NOT_SETTINGS = ("learn", "test", "map", "made_up")

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class _Slumps:
    """Samples that stand for slumps, over all sites.

    Attributes
    ----------
    where, cells : ndarray of int64, shape (n,)
        Number of the site that holds each, and its cell there.
    values : ndarray of float32, shape (factors, n)
    slumps, homes : ndarray of int64, shape (n,)
        Number of the slump over all sites, and the site that has most of it.
    places : ndarray of float64, shape (n, 2)
        Centre of the slump, metres from the corner of its home.
    """

    where: NDArray[np.int64]
    cells: NDArray[np.int64]
    values: NDArray[np.float32]
    slumps: NDArray[np.int64]
    homes: NDArray[np.int64]
    places: NDArray[np.float64]


def draw(
    sites: Sequence[tuple[str, Path, Path]],
    config: SusceptibilityConfig,
    like: Samples | None = None,
    *,
    others: Sequence[tuple[str, Path]] = (),
    progress: Progress = lambda share, words: None,
    window: int = ground.WINDOW,
) -> Samples:
    """Draw the samples from triples of (site, factors.tif, labels.tif).

    - ``facts["left_out"]`` says which bands were not learned from and why;
      ``facts["by_site"]`` how many samples each site gave, ``facts["sites_without_negatives"]``
      those with slumps and nothing to tell them from; ``facts["missing"]`` the share of its
      samples without a value, by site and factor; ``facts["class_samples"]`` how many have each
      class; ``facts["unseen_classes"]`` how many have one that `like` does not know. They count as
      missing, as do samples of a class that a fold does not learn from (`registry.ClassesFill`).
    - ``facts["metres_to_learned"]`` says how far held-out samples lie from those of `like`.
    - Similar negatives (`likeness.Likeness`) are drawn by a propensity that is fitted to the
      slump cells of all sites and to ten times as many random cells beyond the buffer. It so
      looks at labels of all folds: a test fold's slumps make ground like theirs more frequent
      among the negatives everywhere. That makes scores lower, not higher. With `like`, its
      propensity is taken, so the labels of held-out sites are not looked at.

    Parameters
    ----------
    sites : sequence of (str, Path, Path)
        In an order that does not change from run to run.
    config : SusceptibilityConfig
    like : Samples, optional
        Samples that a model learns from: take their factors, classes and propensity.
    others : sequence of (str, Path), optional
        Sites with factors but no labels, which must have the factors too, for they are mapped.
    progress : callable
        Told the share done and what is being done.
    window : int
        Cells a side that are read at a time.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        Grids or labels that do not fit together, factors that a site lacks or that hold numbers
        for missing values, or (`inputs.NothingToDraw`) fewer than two cells with a slump or
        than two without.
    """
    names, left_out = _factors(sites, others, config, like)
    found, counts = [], len(sites)
    for number, (name, factors_path, labels_path) in enumerate(sites):
        progress(0.25 * number / counts, f"slumps of {name}")
        found.append(ground.open_place(number, name, factors_path, labels_path, names))
    per_slump = config.cells_per_slump if config.positives == "cells" else 1
    most = sum(
        int(np.minimum(np.bincount(place.slumps.slumps), per_slump).sum()) for place in found
    )
    wanted_at_most = int(np.ceil(most * config.negatives_per_positive))
    similar = config.negatives == "similar"
    # As much ground as slumps, several times, to learn what slump ground is like.
    pilot = max(1000, 10 * most) if similar else wanted_at_most
    kept = draws.Smallest(pilot, len(names))
    uniform = [draws.stream(config.seed, 1, place.number) for place in found]
    buffer = 0.0 if config.negatives == "random" else config.buffer
    for place in found:
        span = (0.25, 0.25) if similar else (0.25, 0.7)
        for part in ground.parts(
            place, names, buffer, window, _within(progress, span, place, counts)
        ):
            place.clear += part.cells.size
            kept.add(
                draws.keys(uniform[place.number], part.cells), place.number, part.cells, part.values
            )
        inputs.check_values(
            place.watches, place.name, str(place.factors), believe=not config.nodata_check
        )
    positive = _positives(found, config, per_slump)
    wanted = int(np.ceil(positive.cells.size * config.negatives_per_positive))
    _some_of_both(found, positive, config)
    propensity = None
    if similar:
        _, _, other = kept.best(pilot)
        propensity = _propensity(names, positive.values, other, config, like)
        kept = _similar(found, names, config, wanted, propensity, window, progress)
    where, cells, values = kept.best(wanted)
    drawn = _assembled(found, positive, names, (where, cells, values))
    if like is None:
        worthless = inputs.without_worth(drawn.factors, config.factors)
        drawn = drawn.of([name for name in drawn.factors if name not in worthless])
        left_out |= worthless
        drawn = replace(drawn, classes=models.classes_of(drawn.factors))
    else:
        drawn = replace(drawn, classes=like.classes)
    progress(0.98, "facts")
    return replace(
        drawn, facts=_facts(drawn, found, config, left_out, wanted, propensity, like, len(names))
    )


# Headers -------------------------------------------------------------------------------------


def _factors(
    sites: Sequence[tuple[str, Path, Path]],
    others: Sequence[tuple[str, Path]],
    config: SusceptibilityConfig,
    like: Samples | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the factors to read and what is left out, after a look at all grids."""
    names = [name for name, *_ in sites]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"Two sites are called {name}.", hint="Rename one of them: blocks go by site."
            )
    heads = [ground.header(name, path) for name, path, _ in sites]
    inputs.check_grids(heads, {name: raster.grid_of(path) for name, _, path in sites})
    more = [ground.header(name, path) for name, path in others]
    if like is not None:
        chosen, _ = inputs.choose_factors(heads, tuple(like.factors))
        return chosen, {}
    chosen, left_out = inputs.choose_factors([*heads, *more], config.factors)
    inputs.check_grids([*heads, *more])
    return chosen, left_out


def _within(
    progress: Progress, span: tuple[float, float], place: Place, count: int
) -> Callable[[float], None]:
    begin, wide = span

    def told(share: float) -> None:
        progress(begin + wide * (place.number + share) / count, f"ground of {place.name}")

    return told


# What is drawn -------------------------------------------------------------------------------


def _positives(found: Sequence[Place], config: SusceptibilityConfig, per_slump: int) -> _Slumps:
    """Return the samples that stand for slumps; parts of a slump at several sites are one slump."""
    common = seams.common_slumps([place.sheet for place in found])
    of_part = np.concatenate(common)
    sizes = np.concatenate([place.slumps.sizes for place in found])
    centres = np.concatenate([place.slumps.centres for place in found])
    part_home = np.repeat(np.arange(len(found)), [len(each) for each in common])
    # The largest part of each slump first; its site is where the slump counts.
    order = np.lexsort((part_home, -sizes, of_part))
    _, first = np.unique(of_part[order], return_index=True)
    homes = part_home[order[first]]
    weight = np.bincount(of_part, weights=sizes, minlength=homes.size)
    middle = np.stack(
        [np.bincount(of_part, sizes * part, homes.size) / weight for part in centres.T], axis=1
    )
    usable = [np.flatnonzero(~np.isnan(place.values).all(axis=0)) for place in found]
    where = np.repeat(np.arange(len(found)), [each.size for each in usable])
    cells, slumps, at, values = (
        np.concatenate(parts, axis=-1)
        for parts in zip(
            *(
                (
                    place.slumps.cells[chosen],
                    numbers[place.slumps.slumps[chosen]],
                    place.centres(place.slumps.cells[chosen]).T,
                    place.values[:, chosen],
                )
                for place, numbers, chosen in zip(found, common, usable, strict=True)
            ),
            strict=True,
        )
    )
    if config.positives == "centroid":
        kept = samples.nearest_to_centre(at[0], at[1], slumps, middle)
    else:
        rng = np.random.default_rng([config.seed, 0])
        kept = samples.draw_positives(slumps, per_slump, rng)
    slumps = slumps[kept]
    corners = np.stack([place.corner for place in found])
    return _Slumps(
        where[kept],
        cells[kept],
        values[:, kept],
        slumps,
        homes[slumps],
        middle[slumps] - corners[homes[slumps]],
    )


def _some_of_both(found: Sequence[Place], positive: _Slumps, config: SusceptibilityConfig) -> None:
    clear = sum(place.clear for place in found)
    if positive.cells.size < 2:
        known = sum(len(place.slumps.centres) for place in found)
        raise inputs.NothingToDraw(
            f"The labels of {_count(len(found), 'site')} hold {_count(known, 'slump')}, "
            f"{np.unique(positive.slumps).size} of them where there are factors; susceptibility "
            "needs at least 2 cells with a slump.",
            hint="Import outlines, or accept candidates in the review.",
        )
    if clear < 2:
        beyond = "" if config.negatives == "random" else f" beyond {config.buffer:g} m of every one"
        raise inputs.NothingToDraw(
            f"Looked at and without a slump: {_count(clear, 'cell')}{beyond}; "
            "susceptibility needs at least 2.",
            hint="Make buffer smaller, or add sites that were looked at as a whole.",
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _propensity(
    names: Sequence[str],
    slumps: NDArray[np.float32],
    other: NDArray[np.float32],
    config: SusceptibilityConfig,
    like: Samples | None,
) -> tuple[Likeness, tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Return how like slump ground a cell is, the factors it looks at, and their classes."""
    if like is not None and "likeness" in like.facts:
        held = like.facts["likeness"]
        known = {name: tuple(found) for name, found in held["classes"].items()}
        return Likeness.from_json(held["propensity"]), tuple(held["factors"]), known
    both = dict(zip(names, np.concatenate([slumps, other], axis=1), strict=True))
    worthless = inputs.without_worth(both, config.factors)
    both = {name: values for name, values in both.items() if name not in worthless}
    classes = models.classes_of(both)
    features = models.design(both, classes)
    cut = slumps.shape[1]
    return (
        Likeness.fit(features[:cut], features[cut:], models.feature_names(list(both), classes)),
        tuple(both),
        classes,
    )


def _similar(
    found: Sequence[Place],
    names: Sequence[str],
    config: SusceptibilityConfig,
    wanted: int,
    propensity: tuple[Likeness, tuple[str, ...], dict[str, tuple[int, ...]]],
    window: int,
    progress: Progress,
) -> draws.Smallest:
    """Return negatives from ground like that of slumps, in another pass."""
    like, chosen, classes = propensity
    at = [list(names).index(name) for name in chosen]
    kept = draws.Smallest(wanted, len(names))
    for place in found:
        start = draws.stream(config.seed, 2, place.number)
        told = _within(progress, (0.5, 0.45), place, len(found))
        for part in ground.parts(place, names, config.buffer, window, told, first_time=False):
            features = models.design(
                {name: part.values[n] for name, n in zip(chosen, at, strict=True)}, classes
            )
            key = draws.keys(start, part.cells, like.weights(features))
            kept.add(key, place.number, part.cells, part.values)
    return kept


def _assembled(
    found: Sequence[Place],
    positive: _Slumps,
    names: Sequence[str],
    negative: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
) -> Samples:
    """Return the samples as a table: slumps by site, then the others by site."""
    where, free, values = negative
    at = np.r_[positive.where, where]
    cells = np.r_[positive.cells, free]
    places, lonlat = np.empty((cells.size, 2)), np.empty((cells.size, 2))
    for place in found:
        here = at == place.number
        places[here] = place.centres(cells[here]) - place.corner
        lonlat[here] = place.lonlat(cells[here])
    count = positive.cells.size
    # Cells of one slump carry its centre and its site, so that they stay in one block.
    places[:count] = positive.places
    both = np.concatenate([positive.values, values], axis=1)
    return Samples(
        factors=dict(zip(names, both, strict=True)),
        labels=np.r_[np.ones(count, np.uint8), np.zeros(free.size, np.uint8)],
        places=places,
        sites=np.r_[positive.homes, where],
        site_names=tuple(place.name for place in found),
        slumps=np.r_[positive.slumps, np.full(free.size, -1, np.int64)],
        lonlat=lonlat,
    )


# What is said of it --------------------------------------------------------------------------


def _label_rule(place: Place) -> str:
    return (
        f"a {abs(place.grid.affine.a):g} m cell stands for a slump where at least half of its "
        "label pixels are slump; a slump too small for that keeps the one cell it covers most"
    )


def _facts(
    drawn: Samples,
    found: Sequence[Place],
    config: SusceptibilityConfig,
    left_out: Mapping[str, str],
    wanted: int,
    propensity: tuple[Likeness, tuple[str, ...], dict[str, tuple[int, ...]]] | None,
    like: Samples | None,
    read: int,
) -> dict[str, Any]:
    negative = drawn.labels == 0
    by_site = {}
    for place in found:
        here = drawn.sites == place.number
        known = np.unique(place.slumps.slumps[~np.isnan(place.values).all(axis=0)]).size
        by_site[place.name] = {
            "slumps": int(np.unique(drawn.slumps[~negative & here]).size),
            "slumps_without_factors": len(place.slumps.centres) - int(known),
            "positives": int((~negative & here).sum()),
            "negatives": int((negative & here).sum()),
            "cells_for_negatives": place.clear,
        }
    missing = {
        place.name: shares
        for place in found
        if (shares := _missing(drawn, drawn.sites == place.number))
    }
    apart = standardised_differences(drawn.features, drawn.labels)
    facts: dict[str, Any] = {
        "label_rule": _label_rule(found[0]),
        "positives": config.positives,
        "negatives": config.negatives,
        "buffer_m": 0.0 if config.negatives == "random" else config.buffer,
        "n_slumps": int(np.unique(drawn.slumps[~negative]).size),
        "negatives_wanted": wanted,
        "negatives_drawn": int(negative.sum()),
        "bands_read": read,
        "left_out": dict(left_out),
        "by_site": by_site,
        # What sets such a site apart from others is credited with its slumps.
        "sites_without_negatives": [
            name for name, each in by_site.items() if each["positives"] and not each["negatives"]
        ],
        "missing": missing,
        "class_samples": _class_samples(drawn, found),
        "standardised_differences": {
            name: round(float(value), 4) if np.isfinite(value) else None
            for name, value in zip(drawn.feature_names, apart, strict=True)
        },
    }
    if propensity is not None:
        held, chosen, classes = propensity
        facts["likeness"] = {
            "method": "overlap weights of a logistic propensity on standardised factors and their "
            "squares (Li et al. 2018)",
            "fitted_to": "the sites that are learned from"
            if like is not None and "likeness" in like.facts
            else "these samples' slump cells and random ground beyond the buffer",
            "factors": list(chosen),
            "classes": {name: list(each) for name, each in classes.items()},
            "propensity": held.as_json(),
        }
    if like is not None:
        strange = {
            place.name: {name: count for name, count in counts.items() if count}
            for place in found
            if any((counts := _unseen(drawn, drawn.sites == place.number)).values())
        }
        facts["metres_to_learned"] = _apart(drawn.lonlat, like.lonlat)
        facts["unseen_classes"] = strange
        facts["unseen_classes_policy"] = "counted as missing"
    return facts


def _apart(lonlat: NDArray[np.float64], learned: NDArray[np.float64]) -> dict[str, float]:
    """Return how far samples lie from those that are learned from, m: next to them, none is new."""
    from scipy.spatial import cKDTree

    def on_sphere(places: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = np.radians(places).T
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)

    chord, _ = cKDTree(on_sphere(learned)).query(on_sphere(lonlat))
    metres = 6_371_000.0 * 2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))
    return {"least": round(float(metres.min()), 1), "median": round(float(np.median(metres)), 1)}


def _class_samples(drawn: Samples, found: Sequence[Place]) -> dict[str, dict[str, dict[str, int]]]:
    """Return how many samples of each site have each class: one at few is unknown in some folds."""
    return {
        name: {
            str(number): {
                place.name: count
                for place in found
                if (count := int((values[drawn.sites == place.number] == number).sum()))
            }
            for number in drawn.classes[name]
        }
        for name, values in drawn.factors.items()
        if name in drawn.classes
    }


def _missing(drawn: Samples, here: NDArray[np.bool_]) -> dict[str, float]:
    if not here.any():
        return {}
    shares = {name: float(np.isnan(values[here]).mean()) for name, values in drawn.factors.items()}
    return {name: round(share, 4) for name, share in shares.items() if share > 0}


def _unseen(drawn: Samples, here: NDArray[np.bool_]) -> dict[str, int]:
    return models.unseen(
        {name: values[here] for name, values in drawn.factors.items()}, drawn.classes
    )


# The step ------------------------------------------------------------------------------------


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Draw and write the samples of the sites that are learned from, and of those that test."""
    settings = dict(item.settings)
    config = SusceptibilityConfig.model_validate(
        {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    )
    files = Files(workspace, item.round)

    def sites(names: Sequence[str]) -> list[tuple[str, Path, Path]]:
        return [
            (name, workspace.factors(name), workspace.labels(item.round, name)) for name in names
        ]

    learn, test = list(settings["learn"]), list(settings["test"])
    others = [
        (name, workspace.factors(name)) for name in (*test, *settings["map"]) if name not in learn
    ]
    share = 0.7 if test else 0.99
    drawn = draw(
        sites(learn),
        config,
        others=list(dict.fromkeys(others)),
        progress=lambda done, words: progress(share * done, words),
    )
    table.write(files.samples, drawn)
    if test:
        try:
            elsewhere = draw(
                sites(test),
                config,
                drawn,
                progress=lambda done, words: progress(0.7 + 0.29 * done, f"held out: {words}"),
            )
        except inputs.NothingToDraw as nothing:
            # A held-out site without slumps says nothing; the folds stand by themselves.
            elsewhere = replace(drawn.none(), facts={"nothing": nothing.message})
        table.write(files.test_samples, elsewhere)
    progress(1.0, "done")
    facts = drawn.facts
    return {
        "positives": int((drawn.labels == 1).sum()),
        "negatives": int((drawn.labels == 0).sum()),
        "negatives_wanted": int(facts["negatives_wanted"]),
        "slumps": int(facts["n_slumps"]),
        "factors": ", ".join(drawn.factors),
        "left_out": "; ".join(f"{name}: {why}" for name, why in facts["left_out"].items()),
    }
