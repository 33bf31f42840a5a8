"""Samples as a table: read and written as GeoParquet, turned into features for the models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import atomic
from trainer.susceptibility import models
from trainer.susceptibility.samples import block_ids

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Samples", "read", "write"]

_KEY = b"thawslump"
_OWN = ("site", "slump", "label", "east", "north", "geometry")


def _column(factor: str) -> str:
    """Return the column of a factor: its name, unless a column of our own has that."""
    return f"factor {factor}" if factor in _OWN or factor.startswith("factor ") else factor


@dataclass(frozen=True)
class Samples:
    """Samples of several sites.

    Attributes
    ----------
    factors : dict of name to ndarray of float32, shape (n,)
        As in the rasters; NaN where missing.
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not.
    places : ndarray of float64, shape (n, 2)
        Metres east and north of the upper left corner of the sample's site. Of a slump's cells
        it is the centre of the slump, so that they stay in one block.
    sites : ndarray of int64, shape (n,)
        Number of the sample's site in `site_names`.
    site_names : tuple of str
    slumps : ndarray of int64, shape (n,)
        Number of the slump that a positive stands for, over all sites; -1 for negatives.
    lonlat : ndarray of float64, shape (n, 2)
        Centre of the sample's cell, degrees (EPSG:4326).
    classes : dict of factor to tuple of int
        Of the factors that hold classes.
    facts : mapping of JSON values
        How they were drawn; says so where the data are made up.
    """

    factors: dict[str, NDArray[np.float32]]
    labels: NDArray[np.uint8]
    places: NDArray[np.float64]
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]
    slumps: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    classes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> NDArray[np.float32]:
        """Columns for the models, shape (n, features), named by `feature_names`."""
        return models.design(self.factors, self.classes)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return models.feature_names(list(self.factors), self.classes)

    def none(self) -> Samples:
        """Return no sample of the same factors and classes."""
        return Samples(
            {name: values[:0] for name, values in self.factors.items()},
            self.labels[:0], self.places[:0], self.sites[:0], (), self.slumps[:0],
            self.lonlat[:0], self.classes, self.facts,
        )  # fmt: skip

    def of(self, factors: Sequence[str]) -> Samples:
        """Return the same samples with some of their factors."""
        return replace(
            self,
            factors={name: self.factors[name] for name in factors},
            classes={name: each for name, each in self.classes.items() if name in factors},
        )

    def blocks(self, size: float) -> NDArray[np.int64]:
        """Return the spatial block of each sample; sites share none, wherever they lie."""
        inside = block_ids(self.places[:, 0], self.places[:, 1], (0.0, 0.0), size)
        return inside + self.sites * 10**15

    def widest_blocks(self, size: float) -> float:
        """Return the block size, halved until at least two blocks hold slumps."""
        for _ in range(6):
            if np.unique(self.blocks(size)[self.labels == 1]).size >= 2:
                break
            size /= 2
        return size


def write(path: Path, samples: Samples) -> None:
    """Write samples as GeoParquet, points in EPSG:4326, atomically.

    Columns: ``site``, ``slump``, ``label``, ``east``, ``north`` (`Samples.places`), the factors by
    name (one that is called as one of these: ``factor <name>``), ``geometry``. Equal samples give
    equal bytes.

    Raises
    ------
    DataError
        Two sites of one name.
    """
    import geopandas as gpd
    import pyarrow.parquet as pq

    names = samples.site_names
    if len(set(names)) < len(names):
        raise DataError(
            f"Samples of sites {', '.join(names)} share a name; they would become one site.",
            hint="Rename one of them.",
        )
    columns: dict[str, Any] = {
        "site": np.array(samples.site_names, object)[samples.sites],
        "slump": samples.slumps,
        "label": samples.labels,
        "east": samples.places[:, 0],
        "north": samples.places[:, 1],
        **{_column(name): values for name, values in samples.factors.items()},
    }
    frame = gpd.GeoDataFrame(
        columns,
        geometry=gpd.points_from_xy(samples.lonlat[:, 0], samples.lonlat[:, 1]),
        crs="EPSG:4326",
    )
    held = {
        "factors": list(samples.factors),
        "sites": list(samples.site_names),
        "classes": {name: list(found) for name, found in samples.classes.items()},
        "facts": dict(samples.facts),
    }
    text = json.dumps(held, sort_keys=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)
        table = pq.read_table(temporary)
        # geopandas has no argument for metadata of one's own beside its "geo".
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: text})
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path) -> Samples:
    """Read what `write` wrote.

    Raises
    ------
    DataError
        Another file.
    """
    import pyarrow.parquet as pq
    import shapely

    table = pq.read_table(path)
    text = (table.schema.metadata or {}).get(_KEY)
    if text is None:
        raise DataError(
            f"{path} holds no samples of this software.",
            hint="Run `thawslump susceptibility select` again; it draws them.",
        )
    held = json.loads(text)

    def column(name: str) -> NDArray[Any]:
        return np.asarray(table[name].to_numpy())

    points = shapely.from_wkb(column("geometry"))
    numbers = {name: number for number, name in enumerate(held["sites"])}
    return Samples(
        factors={name: column(_column(name)).astype(np.float32) for name in held["factors"]},
        labels=column("label").astype(np.uint8),
        places=np.stack([column("east"), column("north")], axis=1),
        sites=np.array([numbers[name] for name in table["site"].to_pylist()], np.int64),
        site_names=tuple(held["sites"]),
        slumps=column("slump").astype(np.int64),
        lonlat=np.stack([shapely.get_x(points), shapely.get_y(points)], axis=1),
        classes={name: tuple(found) for name, found in held["classes"].items()},
        facts=held["facts"],
    )
