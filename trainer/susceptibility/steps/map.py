"""Step `susceptibility-map`: one model over one site, or over a part of a large one, by windows.

Step `susceptibility-join`: the parts of a large map become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump import raster
from trainer.susceptibility import mapping, models, selection, table
from trainer.susceptibility.applicability import Applicability
from trainer.susceptibility.files import Files
from trainer.susceptibility.persistence import load_model
from trainer.susceptibility.quick import has_members, quick
from trainer.susceptibility.samples import count_labels, runs_of, slump_cells
from trainer.susceptibility.tally import Cut, Tally

if TYPE_CHECKING:
    from pathlib import Path

    from odc.geo.geobox import GeoBox
    from rasterio.windows import Window

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["Labels", "cuts_of", "join", "run", "sayer"]

# Cells around a window that are looked at, so that a slump on its edge is seen whole.
_MARGIN = 32


def sayer(
    model: Any, known: Applicability | None, device: str = "auto"
) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]]:
    """Return what `mapping.stored` asks for each cell: probability, disagreement, outside."""
    ask = quick(model, device)

    def say(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        answer = ask(features)
        missing = np.full(len(features), np.nan)
        outside = missing
        if known is not None:
            outside = (~known.applicable(features)).astype(np.float64)
        return answer.probability, missing if answer.members is None else answer.members, outside

    return say


class Labels:
    """What the labels of a site say of windows of its factors.

    Parameters
    ----------
    path : Path
        Labels: 1 slump, 0 not, 255 not looked at; finer pixels than the factors', in their CRS.
    grid : GeoBox
        Of the factors.
    """

    def __init__(self, path: Path, grid: GeoBox) -> None:
        self.path, self.grid = path, grid
        fine = raster.grid_of(path)
        self._affine, self._shape = fine.affine, (int(fine.shape[0]), int(fine.shape[1]))

    def __call__(self, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where labels say what is there, and where cells stand for slumps, (y, x) each."""
        from rasterio.windows import Window

        shape = (int(window.height), int(window.width))
        looked, slumps = np.zeros(shape, bool), np.zeros(shape, bool)
        cells, fine = self.grid.affine, self._affine
        first = np.array([window.row_off, window.col_off]) - _MARGIN
        last = first + np.array(shape) + 2 * _MARGIN
        to_pixels = ~fine
        x = cells.c + cells.a * np.array([first[1], last[1]])
        y = cells.f + cells.e * np.array([first[0], last[0]])
        columns = np.clip(np.rint(np.sort(to_pixels.a * x + to_pixels.c)), 0, self._shape[1])
        rows = np.clip(np.rint(np.sort(to_pixels.e * y + to_pixels.f)), 0, self._shape[0])
        column, row = int(columns[0]), int(rows[0])
        wide, high = int(columns[1]) - column, int(rows[1]) - row
        if wide <= 0 or high <= 0:
            return looked, slumps
        marks = raster.read(self.path, None, Window(column, row, wide, high)).array[0]
        begin = (int(window.row_off), int(window.col_off))
        counts = count_labels(
            marks.astype(np.uint8), fine, shape, cells, pixel=(row, column), cell=begin
        )
        looked = (counts.slump + counts.clear) > 0
        if (marks == 1).any():
            runs = runs_of(marks == 1, row, column)
            size = (int(self.grid.shape[0]), int(self.grid.shape[1]))
            found = slump_cells(runs, fine, size, cells).cells
            at, beside = np.divmod(found, size[1])
            at, beside = at - begin[0], beside - begin[1]
            inside = (at >= 0) & (at < shape[0]) & (beside >= 0) & (beside < shape[1])
            slumps[at[inside], beside[inside]] = True
        return looked | slumps, slumps


def cuts_of(samples: table.Samples, intervals: int, alpha: float) -> tuple[Cut, ...]:
    """Return the classes of every factor: its own, or those that ChiMerge finds on the samples."""
    found = []
    for name, values in samples.factors.items():
        if name in samples.classes:
            found.append(Cut(name, (), tuple(samples.classes[name])))
            continue
        whole = np.isfinite(values)
        told = np.unique(samples.labels[whole]).size == 2 and np.ptp(values[whole]) > 0
        limits = (
            selection.chimerge(
                values[whole], samples.labels[whole], intervals, alpha, floor=selection.FLOOR
            )
            if told
            else ()
        )
        found.append(Cut(name, tuple(limits)))
    return tuple(found)


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Draw the map of one model over one site, or over a part of it."""
    from rasterio.windows import Window

    settings, files = dict(item.settings), Files(workspace, item.round)
    site, name = str(settings["site"]), str(settings["model"])
    beside = name if settings["beside"] else None
    path = workspace.factors(site)
    samples = table.read(files.samples)
    model, _ = load_model(files.model(name))
    known = Applicability.read(files.applicability) if settings["applicability"] else None
    grid = raster.grid_of(path)
    labels = Labels(workspace.labels(item.round, site), grid) if settings["labelled"] else None
    cuts: tuple[Cut, ...] = ()
    if beside is None:
        cuts = cuts_of(
            samples, int(settings["chimerge_intervals"]), float(settings["chimerge_alpha"])
        )
    factors = tuple(samples.factors)
    say = sayer(model, known, str(settings["device"]))

    def read(window: Window) -> tuple[NDArray[np.float32], Any]:
        values = np.asarray(raster.read_float(path, factors, window).array, np.float32)
        values[~np.isfinite(values)] = np.nan
        return values, None if labels is None else labels(window)

    def work(held: tuple[NDArray[np.float32], Any], _: Window) -> tuple[Any, Tally]:
        return _cells(held[0], held[1], factors, samples.classes, cuts, say)

    part = settings["part"]
    target, tally_at = files.probability(site, beside), files.tally(site, beside)
    drawn = target.with_name(f".{target.stem}.plain.tif")
    if part is not None:
        drawn = files.part(site, beside, part["name"])
        tally_at = drawn.with_suffix(".safetensors")
    tally = mapping.draw(
        drawn,
        {
            "crs": grid.crs.to_wkt(),
            "transform": grid.affine,
            "height": int(grid.shape[0]),
            "width": int(grid.shape[1]),
        },
        read,
        work,
        lambda share: progress(share * (0.9 if part is None else 1.0), f"mapping {site}"),
        {"model": name, "made_up": str(bool(settings["made_up"])).lower()},
        members=has_members(model),
        part=None if part is None else Window(*part["window"]),
        threads=mapping.threads_given(),
    )
    if part is None:
        mapping.join([drawn], target, grid)
        drawn.unlink()
    tally.write(tally_at)
    if part is None:
        progress(1.0, "done")
    counts = tally.counts
    return {"model": name, "cells": counts.get("valid", 0), "outside": counts.get("outside", 0)}


def _cells(
    values: NDArray[np.float32],
    marks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None,
    factors: Sequence[str],
    classes: Mapping[str, Sequence[int]],
    cuts: Sequence[Cut],
    say: Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]],
) -> tuple[NDArray[np.uint16], Tally]:
    """Return the bands of a window and what was counted in it."""

    def design(cells: NDArray[np.float32]) -> NDArray[np.float32]:
        return models.design(dict(zip(factors, cells, strict=True)), classes)

    bands, counts = mapping.stored(values, design, say)
    for factor, count in models.unseen(dict(zip(factors, values, strict=True)), classes).items():
        if count:
            counts[f"unseen {factor}"] = count
    valid = bands[0] != mapping.NODATA
    looked, slumps = (None, None) if marks is None else (each[valid] for each in marks)
    by_name = dict(zip(factors, values[:, valid], strict=True))
    return bands, Tally.of(bands[0][valid], looked, slumps, by_name, cuts, counts)


def join(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Put the parts of a large map together."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    site, beside = str(settings["site"]), settings["beside"]
    parts = [files.part(site, beside, name) for name in settings["parts"]]
    progress(0.0, f"putting {site} together")
    mapping.join(parts, files.probability(site, beside), raster.grid_of(workspace.factors(site)))
    total = Tally.none()
    for part in parts:
        total = total + Tally.read(part.with_suffix(".safetensors"))
    total.write(files.tally(site, beside))
    progress(1.0, "done")
    return {"parts": len(parts), "cells": total.counts.get("valid", 0)}
