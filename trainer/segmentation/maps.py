"""Maps on disk: finished rows are kept as they come, and become a Cloud Optimized GeoTIFF."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import atomic, storage_errors, write_json

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["BANDS", "NODATA", "SCALE", "Rows", "Strip", "join", "quantised", "write_strips"]

Floats = NDArray[np.float32]

BANDS = ("probability", "disagreement", "filled", "mutual_information")
UNITS = ("1", "1", "1", "nat")
CACHE = 64 * 2**20  # bytes of blocks that GDAL keeps; rasterio counts in bytes
NODATA = 65535
SCALE = 1e-4


@dataclass(frozen=True)
class Strip:
    """Finished rows of a map.

    Attributes
    ----------
    row : int
        First row.
    probability, disagreement, filled, information : ndarray of float32, shape (rows, x)
        Mean and standard deviation over the members; share of bands that were missing; mutual
        information of the members, nats. NaN where all bands of all members are missing.
    """

    row: int
    probability: Floats
    disagreement: Floats
    filled: Floats
    information: Floats


def quantised(strip: Strip) -> NDArray[np.uint16]:
    """Return a strip as stored: ten-thousandths, 65535 for nodata, shape (4, rows, x)."""
    values = np.stack([strip.probability, strip.disagreement, strip.filled, strip.information])
    with np.errstate(invalid="ignore"):
        whole = np.rint(values / np.float32(SCALE))
    return np.where(np.isfinite(values), whole, NODATA).astype("uint16")


class Rows:
    """The finished rows of a map that is not whole yet; they outlive the process.

    Parameters
    ----------
    path : Path
        Of the map. The rows lie beside it, in a hidden folder, until `finish` or `drop`.
    grid : GeoBox
        Of the map.
    fingerprint : str, optional
        Names all that the map depends on. Rows that an earlier process left are taken over where
        it is the same, else thrown away; without one they always are.

    Attributes
    ----------
    done : int
        Finished rows.
    facts : dict
        Whatever the rows so far came to besides; kept with them.

    Raises
    ------
    StorageError
        The disk is full or not writable.
    """

    def __init__(self, path: Path, grid: GeoBox, fingerprint: str | None = None) -> None:
        self.path = path
        self.grid = grid
        self.done = 0
        self.facts: dict[str, Any] = {}
        self._sums = np.zeros(4)
        self._folder = path.with_name(f".{path.stem}.rows")
        self._row = len(BANDS) * int(grid.shape[1]) * 2  # bytes
        self._name = fingerprint
        if not self._found():
            self.drop()
            with storage_errors(path):
                self._folder.mkdir(parents=True)
                self._file.touch()

    @property
    def _file(self) -> Path:
        return self._folder / "rows.bin"

    def _found(self) -> bool:
        """Take over what an earlier process left."""
        try:
            state = json.loads((self._folder / "state.json").read_text(encoding="utf-8"))
            fits = state["fingerprint"] == self._name is not None
            if not fits or self._file.stat().st_size < state["done"] * self._row:
                return False
            self.done, self.facts = state["done"], state["facts"]
            self._sums = np.array(state["sums"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def add(self, strip: Strip) -> None:
        """Keep more finished rows; from then on they survive the process."""
        if strip.row != self.done:
            raise ValueError(f"rows come in order: expected row {self.done}, got {strip.row}")
        rows, columns = strip.probability.shape
        there = np.isfinite(strip.probability)
        self._sums += (
            rows * columns,
            there.sum(),
            np.nansum(strip.probability, dtype="float64"),
            np.nansum(strip.filled, dtype="float64"),
        )
        self._append(quantised(strip))

    def _append(self, stored: NDArray[np.uint16]) -> None:
        """Keep rows as they are stored, shape (4, rows, x)."""
        # Line by line, a band after the other: rows are only ever appended.
        lines = np.ascontiguousarray(stored.swapaxes(0, 1)).astype("<u2", copy=False)
        with storage_errors(self.path):
            with self._file.open("r+b") as stream:
                stream.seek(self.done * self._row)
                stream.write(lines.tobytes())
                stream.flush()
            self.done += len(lines)
            # Renamed into place after the rows: a state never speaks of rows that are not there.
            write_json(
                self._folder / "state.json",
                {
                    "fingerprint": self._name,
                    "done": self.done,
                    "facts": self.facts,
                    "sums": self._sums.tolist(),
                },
            )

    def take(self, files: Sequence[Path], sums: NDArray[np.float64]) -> None:
        """Keep the rows of blocks that lie side by side, from left to right.

        Parameters
        ----------
        files : sequence of Path
        sums : ndarray of float64, shape (4,)
            What they add to the facts.
        """
        from contextlib import ExitStack

        from rasterio.windows import Window

        from thawslump.raster import open_raster

        self._sums += sums
        with ExitStack() as stack:
            sources = [stack.enter_context(open_raster(file)) for file in files]
            height = sources[0].height
            for top in range(0, height, 256):
                count = min(256, height - top)
                parts = [each.read(window=Window(0, top, each.width, count)) for each in sources]
                self._append(np.concatenate(parts, axis=2))

    def finish(
        self, tags: Mapping[str, str], *, may_be_empty: bool = False, block: bool = False
    ) -> dict[str, float]:
        """Write the map, atomically; the rows are no longer needed then.

        Parameters
        ----------
        tags : mapping
            Of the file.
        may_be_empty : bool
            A map without any value is no error.
        block : bool
            The file is one block of a map (see `join`): tiled, without overviews.

        Returns
        -------
        dict
            pixels, nodata_pixels, mean_probability, filled_share.

        Raises
        ------
        DataError
            No pixel has a value, and the map may not be empty.
        StorageError
            The disk is full or not writable; an older map stays as it was.
        """
        if not self._sums[1] and not may_be_empty:
            self.drop()
            raise _empty(self.path)
        sums = {"sums": json.dumps(self._sums.tolist())} if block else {}
        source = self._folder / "rows.tif"
        self._plain(source, {**tags, **sums})
        _copy(source, self.path, overviews=not block)
        self.drop()
        return _facts(self._sums)

    def _plain(self, path: Path, tags: Mapping[str, str]) -> None:
        """Write the rows as a plain GeoTIFF: a virtual raster over them would be held in memory."""
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        from thawslump.errors import StorageError

        height, width = (int(side) for side in self.grid.shape)
        profile = {
            "driver": "GTiff",
            "dtype": "uint16",
            "count": len(BANDS),
            "height": height,
            "width": width,
            "crs": self.grid.crs.to_wkt(),
            "transform": self.grid.transform,
            "nodata": NODATA,
            "bigtiff": "IF_SAFER",
        }
        try:
            with (
                rasterio.Env(GDAL_CACHEMAX=CACHE),
                rasterio.open(path, "w", **profile) as target,
                self._file.open("rb") as stream,
            ):
                target.descriptions = BANDS
                target.units = UNITS
                target.scales = (SCALE,) * len(BANDS)
                target.offsets = (0.0,) * len(BANDS)
                target.update_tags(**tags)
                for top in range(0, height, 256):
                    count = min(256, height - top)
                    lines = np.frombuffer(stream.read(count * self._row), dtype="<u2")
                    stored = lines.reshape(count, len(BANDS), width).swapaxes(0, 1)
                    target.write(stored, window=Window(0, top, width, count))
        except RasterioError as error:
            raise StorageError(
                f"{self.path} could not be written: {error}. What was there before is unchanged.",
                hint="The disk is probably full or not writable; free space and start again.",
            ) from error

    def drop(self) -> None:
        """Throw the rows away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What the data make impossible stays impossible; a full disk or a signal does not.
        if isinstance(error, DataError) or self._name is None:
            self.drop()


def _empty(path: Path) -> DataError:
    return DataError(
        f"{path} would be empty: the stack has no valid pixel in the models' bands.",
        hint="Look at the tile: its windows may hold no clear image. Export it again.",
    )


def _facts(sums: NDArray[np.float64]) -> dict[str, float]:
    pixels, valid, probability, filled = sums
    return {
        "pixels": int(pixels),
        "nodata_pixels": int(pixels - valid),
        "mean_probability": round(float(probability / max(valid, 1)), 6),
        "filled_share": round(float(filled / max(valid, 1)), 6),
    }


def _copy(source: Path, path: Path, *, overviews: bool) -> None:
    """Copy a raster to its final name."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    from thawslump.errors import StorageError

    # Cached blocks of GDAL would otherwise grow with the raster, up to a share of all memory.
    with atomic(path) as temporary, rasterio.Env(GDAL_CACHEMAX=CACHE):
        try:
            copy(
                source,
                temporary,
                driver="COG",
                compress="ZSTD",
                predictor=2,
                blocksize=512,
                overviews="AUTO" if overviews else "NONE",
                resampling="average",
                bigtiff="IF_SAFER",
            )
        except RasterioError as error:
            raise StorageError(
                f"{path} could not be written: {error}. What was there before is unchanged.",
                hint="The disk is probably full or not writable; free space and start again.",
            ) from error


def write_strips(
    path: Path,
    strips: Iterator[Strip],
    grid: GeoBox,
    tags: dict[str, str],
    *,
    may_be_empty: bool = False,
) -> dict[str, float]:
    """Write a map as a Cloud Optimized GeoTIFF, strip by strip, atomically.

    The tags are written last: what making the strips finds out may be among them. Returns and
    raises what `Rows.finish` does.
    """
    with Rows(path, grid) as rows:
        for strip in strips:
            rows.add(strip)
        return rows.finish(tags, may_be_empty=may_be_empty)


def join(
    path: Path, files: Sequence[Path], grid: GeoBox, tags: Mapping[str, str]
) -> dict[str, float]:
    """Make one map of its blocks.

    Parameters
    ----------
    path : Path
        Of the map.
    files : sequence of Path
        As `Rows.finish` wrote them with `block`; together they cover the map.
    grid : GeoBox
        Of the map.
    tags : mapping
        Of the file.

    Returns
    -------
    dict
        As `Rows.finish`.

    Raises
    ------
    DataError
        A block is damaged, or no pixel of any has a value.
    StorageError
        The disk is full or not writable.
    """
    import rasterio

    from thawslump.raster import open_raster

    sides: dict[int, list[tuple[int, Path]]] = {}
    sums: dict[Path, NDArray[np.float64]] = {}
    for file in files:
        with open_raster(file) as source:
            try:
                sums[file] = np.array(json.loads(source.tags()["sums"]))
            except (KeyError, ValueError) as error:
                raise DataError(
                    f"{file} is not a block of a map.",
                    hint="Delete it and run `thawslump predict` again; it is made anew.",
                ) from error
            t, own = grid.transform, source.transform
            top, left = round((own.f - t.f) / t.e), round((own.c - t.c) / t.a)
        sides.setdefault(top, []).append((left, file))
    # A virtual raster over the blocks would hold each of them in memory once it was read.
    with Rows(path, grid) as rows, rasterio.Env(GDAL_CACHEMAX=CACHE):
        for top in sorted(sides):
            beside = [file for _, file in sorted(sides[top])]
            rows.take(beside, np.sum([sums[file] for file in beside], axis=0))
        return rows.finish(tags)
