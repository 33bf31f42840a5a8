"""Points whose motion was measured (InSAR, GNSS), and how fast the ground of each class moves.

Zhang et al. 2023 lay the rates of radar points over their map and call what moves by less than
10 mm/yr stable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import interval

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["STABLE", "Points", "rates_by_class", "read_points"]

Floats = NDArray[np.float64]
STABLE = 10.0  # mm/yr, Zhang et al. 2023
_LON = ("lon", "longitude", "long", "lng", "x", "easting", "lon_wgs84")
_LAT = ("lat", "latitude", "y", "northing", "lat_wgs84")
_SPEED = (
    "vel", "velocity", "v", "mean_velocity", "mean_vel", "meanvelocity", "vlos", "v_los",
    "vel_los", "los_velocity", "rate", "deformation_rate", "displacement_rate", "vel_mean",
)  # fmt: skip
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_UNIT = re.compile(r"[_ ]*[(\[]?(mm|cm|m)[_ /]*(?:per_?|p)?_?(?:yr|year|a|y)(?:-1)?[)\]]?$")
# Numbers that one intermediate of the intervals may hold.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Points:
    """Points and their rates.

    Attributes
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees (EPSG:4326).
    velocity : ndarray of float64, shape (n,)
        mm/yr, with the sign of the source (of radar: usually towards the sensor positive).
    column : str
        Where the rates were read.
    left_out : int
        Points without a finite rate or place.
    """

    lonlat: Floats
    velocity: Floats
    column: str
    left_out: int


def read_points(path: Path) -> Points:
    """Read deformation points.

    Parameters
    ----------
    path : Path
        GeoParquet, GeoPackage or another vector file of points with a CRS, or CSV with columns of
        longitude and latitude in degrees. The rate is a column such as ``velocity``, ``vel`` or
        ``vel_mm_yr``; a unit at the end of its name (mm, cm, m per year) is honoured, and mm/yr
        is taken where there is none.

    Raises
    ------
    DataError
        No such file, another kind of file, no column of places or rates, places that cannot be
        degrees, or rates that cannot be mm/yr.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist; deformation points were expected there.",
            hint="Correct susceptibility.deformation in thawslump.yaml, or set it to null.",
        )
    suffix = path.suffix.lower()
    if suffix in (".csv", ".txt", ".tsv"):
        lonlat, frame = _csv(path)
    else:
        lonlat, frame = _vectors(path)
    name, unit = _speed(path, [str(column) for column in frame.columns])
    velocity = _numbers(path, frame, name) * unit
    usable = np.isfinite(velocity) & np.isfinite(lonlat).all(axis=1)
    if not usable.any():
        raise DataError(
            f"{path}: none of the {len(velocity)} points has a finite rate in column {name!r}.",
            hint="Give rates in mm/yr as numbers.",
        )
    speeds = np.abs(velocity[usable])
    typical = float(np.quantile(speeds, 0.99))
    if speeds.size >= 20 and (0 < typical < 0.2 or typical > 10_000):
        likely = "m/yr" if typical < 0.2 else "another unit than mm/yr"
        raise DataError(
            f"{path}: 99 % of the rates in column {name!r} are below {typical:.3g} mm/yr in size; "
            f"they are probably in {likely}.",
            hint="Name the unit at the end of the column, such as vel_m_yr, vel_cm_yr, vel_mm_yr.",
        )
    return Points(lonlat[usable], velocity[usable], name, int((~usable).sum()))


def _plain(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip().lower())


def _csv(path: Path) -> tuple[Floats, Any]:
    import pandas as pd

    try:
        # Time series beside the rates are many columns that nothing here needs.
        frame = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path} could not be read as a table: {error}.",
            hint="Give a CSV with a header line and commas.",
        ) from error
    columns = {_plain(str(column)): str(column) for column in frame.columns}
    lon = next((columns[name] for name in _LON if name in columns), None)
    lat = next((columns[name] for name in _LAT if name in columns), None)
    if lon is None or lat is None:
        raise DataError(
            f"{path} has no columns of longitude and latitude; it has {_some(frame.columns)}.",
            hint="Name them lon and lat (degrees), or give a GeoPackage or GeoParquet.",
        )
    lonlat = np.stack([_numbers(path, frame, lon), _numbers(path, frame, lat)], axis=1)
    known = lonlat[np.isfinite(lonlat).all(axis=1)]
    if known.size:
        wide, high = np.abs(known).max(axis=0)
        if wide <= 90 and 90 < high <= 180:
            raise DataError(
                f"{path}: column {lat!r} reaches {high:.4g} degrees, which is no latitude; "
                f"{lon!r} and {lat!r} are probably swapped.",
                hint="Exchange the names of the two columns.",
            )
        if wide > 360 or high > 90:
            raise DataError(
                f"{path}: columns {lon!r} and {lat!r} reach {wide:.6g} and {high:.6g}; degrees "
                "were expected.",
                hint="Give longitude and latitude, or a GeoPackage, which says its CRS.",
            )
        lonlat[:, 0] = np.where(lonlat[:, 0] > 180, lonlat[:, 0] - 360, lonlat[:, 0])
    return lonlat, frame.drop(columns=[lon, lat])


def _vectors(path: Path) -> tuple[Floats, Any]:
    import geopandas as gpd
    import shapely

    try:
        parquet = path.suffix.lower() in (".parquet", ".geoparquet")
        frame = gpd.read_parquet(path) if parquet else gpd.read_file(path)
    except Exception as error:  # drivers raise errors of many kinds
        raise DataError(
            f"{path} could not be read as points: {error}.",
            hint="Give GeoParquet, GeoPackage, or CSV with lon, lat and velocity.",
        ) from error
    if frame.crs is None:
        raise DataError(f"{path} says no CRS.", hint="Write it again with one, such as EPSG:4326.")
    kinds = sorted({str(kind) for kind in frame.geom_type.dropna()} - {"Point"})
    if kinds:
        raise DataError(
            f"{path} holds {', '.join(kinds)}; points were expected.",
            hint="Give the measured points, one in each row.",
        )
    points = frame.geometry.to_crs("EPSG:4326").to_numpy()
    lonlat = np.stack([shapely.get_x(points), shapely.get_y(points)], axis=1)
    return lonlat, frame.drop(columns=frame.geometry.name)


def _speed(path: Path, columns: Sequence[str]) -> tuple[str, float]:
    """Return the column of rates and what makes mm/yr of it."""
    for column in columns:
        plain = _plain(column)
        found = _UNIT.search(plain)
        stem = plain[: found.start()] if found else plain
        if stem in _SPEED:
            return column, _UNITS[found[1]] if found else 1.0
    raise DataError(
        f"{path} has no column of rates; it has {_some(columns)}.",
        hint="Name it velocity (mm/yr), or with its unit: vel_mm_yr, vel_cm_yr, vel_m_yr.",
    )


def _numbers(path: Path, frame: Any, name: str) -> Floats:
    import pandas as pd

    values = pd.to_numeric(frame[name], errors="coerce")
    odd = values.isna() & frame[name].notna()
    if odd.any():
        raise DataError(
            f"{path}: column {name!r} holds {frame[name][odd].iloc[0]!r}, which is no number.",
            hint="Leave what is not known empty.",
        )
    return np.asarray(values.to_numpy(), np.float64)


def _some(columns: Sequence[Any]) -> str:
    named = [str(column) for column in columns]
    return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")


def rates_by_class(
    velocity: NDArray[np.floating[Any]],
    classes: NDArray[np.integer[Any]],
    count: int,
    blocks: NDArray[np.integer[Any]],
    resamples: int = 1000,
    seed: int = 0,
    stable: float = STABLE,
) -> list[dict[str, Any]]:
    """Return the rates inside each class.

    Neighbouring points move together; whole blocks of ground are drawn for the interval of the
    median, so that it is not that of as many independent points.

    Parameters
    ----------
    velocity : ndarray of float, shape (n,)
        mm/yr, finite.
    classes : ndarray of int, shape (n,)
        1 to `count`.
    count : int
    blocks : ndarray of int, shape (n,)
        Block of ground of each point.
    resamples, seed : int
    stable : float
        mm/yr; what moves faster in either direction counts as moving.

    Returns
    -------
    list of dict
        For each class: ``points``, ``blocks``, and where there are any ``median``, its 95 %
        ``median_interval`` (None with fewer than two blocks), ``quartiles``, ``median_speed`` (of
        the size of the rates) and ``share_moving``; rates in mm/yr.

    Examples
    --------
    >>> v, c = np.array([-12.0, -1.0, 0.0, 2.0]), np.array([2, 1, 1, 1])
    >>> found = rates_by_class(v, c, 2, np.arange(4), 100)
    >>> [(each["points"], each["median"], each["share_moving"]) for each in found]
    [(3, 0.0, 0.0), (1, -12.0, 1.0)]
    """
    speeds = np.asarray(velocity, np.float64)
    found: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        inside = np.asarray(classes) == number
        mine = speeds[inside]
        of = np.unique(np.asarray(blocks)[inside], return_inverse=True)[1]
        row: dict[str, Any] = {"points": int(mine.size), "blocks": int(np.unique(of).size)}
        if mine.size:
            low, middle, high = np.quantile(mine, [0.25, 0.5, 0.75])
            row |= {
                "median": float(middle),
                "median_interval": _median_interval(mine, of, resamples, seed),
                "quartiles": [float(low), float(high)],
                "median_speed": float(np.median(np.abs(mine))),
                "share_moving": float((np.abs(mine) > stable).mean()),
            }
        found.append(row)
    return found


def _median_interval(
    values: Floats, of: NDArray[np.int64], resamples: int, seed: int
) -> list[float] | None:
    """Return the percentile interval of the median over draws of whole blocks."""
    blocks = int(of.max()) + 1
    if blocks < 2:
        return None
    order = np.argsort(values, kind="stable")
    ordered, block = values[order], of[order]
    dice = np.random.default_rng(seed)
    drawn = dice.multinomial(blocks, np.full(blocks, 1.0 / blocks), resamples)
    medians = np.empty(resamples)
    step = max(1, _AT_ONCE // values.size)
    for first in range(0, resamples, step):
        total = np.cumsum(drawn[first : first + step][:, block], axis=1)
        half = total[:, -1:] / 2.0
        # The lower of the two middle values where their number is even: with repeated blocks
        # both are mostly the same.
        medians[first : first + step] = ordered[np.argmax(total >= half, axis=1)]
    inside = interval(float(np.median(values)), medians)
    return [inside.low, inside.high]
