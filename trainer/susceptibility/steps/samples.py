"""Step `susceptibility-samples`: cells that stand for slumps, and cells that stand for none.

Rasters are read by windows, twice (thrice for negatives from similar ground): labels for the
slumps, then labels and factors together. Memory holds one window, the slumps' cells and the
samples; what is drawn depends on the seed, not on the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.windows import Window

from thawslump import raster
from thawslump.errors import DataError
from trainer.susceptibility import draws, inputs, models, samples, table
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.likeness import Likeness, standardised_differences
from trainer.susceptibility.samples import Runs, SlumpCells
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["draw", "run"]

NOT_SETTINGS = ("learn", "test", "map", "made_up")
WINDOW = 512  # cells a side, as the blocks of the files
_PIXELS = 2048  # label pixels a side where no factor is needed

Progress = Callable[[float, str], None]


@dataclass
class _Place:
    """A site while samples are drawn from it."""

    number: int
    name: str
    factors: Path
    labels: Path
    grid: GeoBox
    label_grid: GeoBox
    slumps: SlumpCells
    values: NDArray[np.float32]  # of the cells of slumps, shape (factors, cells)
    clear: int = 0
    watches: dict[str, inputs.Watch] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.grid.shape[0]), int(self.grid.shape[1])


def draw(
    sites: Sequence[tuple[str, Path, Path]],
    config: SusceptibilityConfig,
    like: Samples | None = None,
    *,
    others: Sequence[tuple[str, Path]] = (),
    progress: Progress = lambda share, words: None,
    window: int = WINDOW,
) -> Samples:
    """Draw the samples from triples of (site, factors.tif, labels.tif).

    - ``facts["left_out"]`` says which bands were not learned from and why;
      ``facts["by_site"]`` how many samples each site gave; ``facts["missing"]`` the share of its
      samples without a value, by site and factor; ``facts["unseen_classes"]`` how many have a
      class that `like` does not know: they count as missing.
    - Similar negatives (`likeness.Likeness`) are drawn by a propensity that is fitted to the
      slump cells of all sites and to as large a random sample of other ground. It so looks at
      labels of all folds: a test fold's slumps make ground like theirs more frequent among the
      negatives everywhere. That makes scores lower, not higher. With `like`, its propensity is
      taken, so the labels of held-out sites are not looked at.

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
        found.append(_slumps(number, name, factors_path, labels_path, names))
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
        for part in _parts(place, names, buffer, window, _within(progress, span, place, counts)):
            place.clear += part.cells.size
            kept.add(
                draws.keys(uniform[place.number], part.cells), place.number, part.cells, part.values
            )
        inputs.check_values(
            place.watches, place.name, str(place.factors), believe=not config.nodata_check
        )
    positive = [_positives(place, config, per_slump) for place in found]
    total = sum(cells.size for cells, _, _ in positive)
    wanted = int(np.ceil(total * config.negatives_per_positive))
    _some_of_both(found, positive, total, sum(place.clear for place in found), config)
    slumps_of = np.concatenate([values for _, _, values in positive], axis=1)
    propensity = None
    if similar:
        _, _, ground = kept.best(pilot)
        propensity = _propensity(names, slumps_of, ground, config, like)
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


def _header(name: str, path: Path) -> inputs.Site:
    with raster.open_raster(path) as source:
        bands = tuple(each or f"band{n + 1}" for n, each in enumerate(source.descriptions))
    return inputs.Site(name, str(path), bands, raster.grid_of(path))


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
    heads = [_header(name, path) for name, path, _ in sites]
    inputs.check_grids(heads, {name: raster.grid_of(path) for name, _, path in sites})
    more = [_header(name, path) for name, path in others]
    if like is not None:
        chosen, _ = inputs.choose_factors(heads, tuple(like.factors))
        return chosen, {}
    chosen, left_out = inputs.choose_factors([*heads, *more], config.factors)
    inputs.check_grids([*heads, *more])
    return chosen, left_out


# Windows -------------------------------------------------------------------------------------


def _windows(shape: tuple[int, int], side: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield first row, first column, rows and columns of the windows of a raster."""
    for row in range(0, shape[0], side):
        for column in range(0, shape[1], side):
            yield row, column, min(side, shape[0] - row), min(side, shape[1] - column)


def _marks(path: Path, window: Window) -> NDArray[np.uint8]:
    array = raster.read(path, window=window).array[0]
    strange = array[(array != 0) & (array != 1) & (array != samples.NOT_LOOKED_AT)]
    if strange.size:
        raise DataError(
            f"{path} holds {strange[0]:g}; 1 (slump), 0 (none) and 255 (not looked at) were "
            "expected.",
            hint="`thawslump run` makes the labels again; own ones must hold these numbers.",
        )
    return np.asarray(array, np.uint8)


def _slumps(
    number: int, name: str, factors_path: Path, labels_path: Path, names: Sequence[str]
) -> _Place:
    grid, label_grid = raster.grid_of(factors_path), raster.grid_of(labels_path)
    shape = (int(label_grid.shape[0]), int(label_grid.shape[1]))
    parts: list[Runs] = []
    for row, column, rows, columns in _windows(shape, _PIXELS):
        marks = _marks(labels_path, Window(column, row, columns, rows))
        parts.append(samples.runs_of(marks == 1, row, column))
    cells = samples.slump_cells(
        samples.joined(parts),
        label_grid.affine,
        (int(grid.shape[0]), int(grid.shape[1])),
        grid.affine,
    )
    values = np.full((len(names), cells.cells.size), np.nan, np.float32)
    watches = {each: inputs.Watch(inputs.is_classes(each)) for each in names}
    return _Place(
        number, name, factors_path, labels_path, grid, label_grid, cells, values, 0, watches
    )


@dataclass(frozen=True)
class _Part:
    """Cells of a window where a negative may be drawn: flat indices and values."""

    cells: NDArray[np.int64]
    values: NDArray[np.float32]


def _label_window(place: _Place, first: tuple[int, int], shape: tuple[int, int]) -> Window | None:
    """Return the label pixels below a window of cells, and a pixel more around; None for none."""
    affine, fine = place.grid.affine, place.label_grid.affine
    left, top = affine.c + first[1] * affine.a, affine.f + first[0] * affine.e
    right, bottom = left + shape[1] * affine.a, top + shape[0] * affine.e
    height, width = (int(v) for v in place.label_grid.shape)
    columns = sorted(((left - fine.c) / fine.a, (right - fine.c) / fine.a))
    rows = sorted(((top - fine.f) / fine.e, (bottom - fine.f) / fine.e))
    start = (max(0, int(np.floor(rows[0])) - 1), max(0, int(np.floor(columns[0])) - 1))
    stop = (min(height, int(np.ceil(rows[1])) + 1), min(width, int(np.ceil(columns[1])) + 1))
    if start[0] >= stop[0] or start[1] >= stop[1]:
        return None
    return Window(start[1], start[0], stop[1] - start[1], stop[0] - start[0])


def _parts(
    place: _Place,
    names: Sequence[str],
    buffer: float,
    window: int,
    progress: Callable[[float], None],
    first_time: bool = True,
) -> Iterator[_Part]:
    """Yield the cells of each window where a negative may be drawn.

    The first time it also fills in the values of the cells of slumps, and looks for numbers that
    stand for missing values in all cells that were looked at.
    """
    width = place.shape[1]
    affine = place.grid.affine
    spacing = (abs(affine.e), abs(affine.a))
    # Cells of slumps in the order of the raster, to find those of a window.
    order = np.argsort(place.slumps.cells, kind="stable")
    ordered = place.slumps.cells[order]
    windows = list(_windows(place.shape, window))
    for done, (row, column, rows, columns) in enumerate(windows):
        progress(done / len(windows))
        pixels = _label_window(place, (row, column), (rows, columns))
        if pixels is None:
            continue
        marks = _marks(place.labels, pixels)
        if (marks == samples.NOT_LOOKED_AT).all():
            continue
        counts = samples.count_labels(
            marks,
            place.label_grid.affine,
            (rows, columns),
            affine,
            pixel=(int(pixels.row_off), int(pixels.col_off)),
            cell=(row, column),
        )
        free = samples.clear_cells(counts)
        if free.any():
            free &= samples.beyond(
                place.slumps.touched, width, (row, column), (rows, columns), spacing, buffer
            )
        looked_at = (counts.slump > 0) | (counts.clear > 0)
        if not (free.any() or (first_time and looked_at.any())):
            continue
        read = raster.read_float(place.factors, names, Window(column, row, columns, rows))
        values = np.asarray(read.array, np.float32)
        if first_time:
            for name, band in zip(names, values, strict=True):
                place.watches[name].look(band[looked_at])
            low, high = np.searchsorted(ordered, [row * width, (row + rows) * width])
            at = ordered[low:high]
            here = (at % width >= column) & (at % width < column + columns)
            chosen, at = order[low:high][here], at[here]
            place.values[:, chosen] = values[:, at // width - row, at % width - column]
        free &= ~np.isnan(values).all(axis=0)
        at_row, at_column = np.nonzero(free)
        yield _Part((at_row + row) * width + at_column + column, values[:, free])


def _within(
    progress: Progress, span: tuple[float, float], place: _Place, count: int
) -> Callable[[float], None]:
    begin, wide = span

    def told(share: float) -> None:
        progress(begin + wide * (place.number + share) / count, f"ground of {place.name}")

    return told


# What is drawn -------------------------------------------------------------------------------


def _positives(
    place: _Place, config: SusceptibilityConfig, per_slump: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return cells, slumps and values of the positives of a site."""
    held = place.slumps
    usable = np.flatnonzero(~np.isnan(place.values).all(axis=0))
    cells, slumps = held.cells[usable], held.slumps[usable]
    if config.positives == "centroid":
        chosen = samples.nearest_to_centre(
            cells, slumps, held.centres, place.shape[1], place.grid.affine
        )
    else:
        rng = np.random.default_rng([config.seed, 0, place.number])
        chosen = samples.draw_positives(cells, slumps, per_slump, rng)
    return cells[chosen], slumps[chosen], place.values[:, usable[chosen]]


def _some_of_both(
    found: Sequence[_Place],
    positive: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
    total: int,
    clear: int,
    config: SusceptibilityConfig,
) -> None:
    if total < 2:
        known = sum(len(place.slumps.centres) for place in found)
        used = sum(np.unique(slumps).size for _, slumps, _ in positive)
        raise inputs.NothingToDraw(
            f"The labels of {len(found)} sites hold {known} slumps, {used} of them where there are "
            "factors; susceptibility needs at least 2 cells with a slump.",
            hint="Import outlines, or accept candidates in the review.",
        )
    if clear < 2:
        beyond = "" if config.negatives == "random" else f" beyond {config.buffer:g} m of every one"
        raise inputs.NothingToDraw(
            f"{clear} cells without a slump were looked at{beyond}; "
            "susceptibility needs at least 2.",
            hint="Make buffer smaller, or add sites that were looked at as a whole.",
        )


def _propensity(
    names: Sequence[str],
    slumps: NDArray[np.float32],
    ground: NDArray[np.float32],
    config: SusceptibilityConfig,
    like: Samples | None,
) -> tuple[Likeness, tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Return how like slump ground a cell is, the factors it looks at, and their classes."""
    if like is not None and "likeness" in like.facts:
        held = like.facts["likeness"]
        known = {name: tuple(found) for name, found in held["classes"].items()}
        return Likeness.from_json(held["propensity"]), tuple(held["factors"]), known
    both = dict(zip(names, np.concatenate([slumps, ground], axis=1), strict=True))
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
    found: Sequence[_Place],
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
        for part in _parts(place, names, config.buffer, window, told, first_time=False):
            features = models.design(
                {name: part.values[n] for name, n in zip(chosen, at, strict=True)}, classes
            )
            key = draws.keys(start, part.cells, like.weights(features))
            kept.add(key, place.number, part.cells, part.values)
    return kept


def _assembled(
    found: Sequence[_Place],
    positive: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
    names: Sequence[str],
    negative: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
) -> Samples:
    """Return the samples as a table: slumps by site, then the others by site."""
    where, free, values = negative
    seen = np.r_[0, np.cumsum([len(place.slumps.centres) for place in found])]
    places, lonlat, slumps = [], [], []
    for place, (cells, numbers, _) in zip(found, positive, strict=True):
        # Cells of one slump carry its centre, so that they stay in one block.
        places.append(place.slumps.centres[numbers] - _corner(place))
        lonlat.append(_lonlat(place, cells))
        slumps.append(numbers + seen[place.number])
    for place in found:
        cells = free[where == place.number]
        places.append(_centres(place, cells) - _corner(place))
        lonlat.append(_lonlat(place, cells))
    of_positive = [np.full(each[0].size, n, np.int64) for n, each in enumerate(positive)]
    both = np.concatenate([*(each[2] for each in positive), values], axis=1)
    count = sum(each.size for each in of_positive)
    return Samples(
        factors=dict(zip(names, both, strict=True)),
        labels=np.r_[np.ones(count, np.uint8), np.zeros(free.size, np.uint8)],
        places=np.concatenate(places),
        sites=np.concatenate([*of_positive, where]),
        site_names=tuple(place.name for place in found),
        slumps=np.concatenate([*slumps, np.full(free.size, -1, np.int64)]),
        lonlat=np.concatenate(lonlat),
    )


def _corner(place: _Place) -> NDArray[np.float64]:
    return np.array([place.grid.affine.c, place.grid.affine.f])


def _centres(place: _Place, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    row, column = np.divmod(cells, place.shape[1])
    affine = place.grid.affine
    return np.stack(
        [affine.c + (column + 0.5) * affine.a, affine.f + (row + 0.5) * affine.e], axis=1
    )


def _lonlat(place: _Place, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    centre = _centres(place, cells)
    to_lonlat = Transformer.from_crs(place.grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    return np.stack(to_lonlat.transform(centre[:, 0], centre[:, 1]), axis=1)


# What is said of it --------------------------------------------------------------------------


def _label_rule(place: _Place) -> str:
    return (
        f"a {abs(place.grid.affine.a):g} m cell stands for a slump where at least half of its "
        "label pixels are slump; a slump too small for that keeps the one cell it covers most"
    )


def _facts(
    drawn: Samples,
    found: Sequence[_Place],
    config: SusceptibilityConfig,
    left_out: Mapping[str, str],
    wanted: int,
    propensity: tuple[Likeness, tuple[str, ...], dict[str, tuple[int, ...]]] | None,
    like: Samples | None,
    read: int,
) -> dict[str, Any]:
    negative = drawn.labels == 0
    by_site = {
        place.name: {
            "slumps": int(np.unique(drawn.slumps[~negative & (drawn.sites == place.number)]).size),
            "slumps_without_factors": len(place.slumps.centres)
            - int(np.unique(drawn.slumps[~negative & (drawn.sites == place.number)]).size),
            "positives": int((~negative & (drawn.sites == place.number)).sum()),
            "negatives": int((negative & (drawn.sites == place.number)).sum()),
            "cells_for_negatives": place.clear,
        }
        for place in found
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
        "missing": missing,
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
        facts["unseen_classes"] = strange
        facts["unseen_classes_policy"] = "counted as missing"
    return facts


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
