"""What a model must not be used on, said before it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError
from trainer.segmentation.cards import read_item

__all__ = ["refuse_member", "refuse_resolutions", "refuse_stack"]

_SPREAD = 100.0  # times the training spread: a band of 0.1 is in hundredths, thousandths ...
_SAMPLE = 256  # pixels a side on which the spread is looked at


def refuse_member(
    folder: Path, item: Mapping[str, Any], ensemble: Mapping[str, Any] | None
) -> None:
    """Refuse a run whose item and weights do not go together.

    Parameters
    ----------
    folder : Path
        Of the run.
    item : mapping
        Its item.json.
    ensemble : mapping or None
        The item of the ensemble it is a member of.

    Raises
    ------
    DataError
        The weights are not those of the item, or the ensemble was made when its bands stood in
        another order or were scaled otherwise.
    """
    from thawslump.files import sha256

    name = folder.name
    entry = item["properties"]["mlm:input"][0]
    if len(entry["bands"]) != len(entry["value_scaling"]):
        raise DataError(
            f"{folder / 'item.json'} names {len(entry['bands'])} bands "
            f"({', '.join(entry['bands'])}) and scales {len(entry['value_scaling'])}.",
            hint="It was edited. Train the run again: delete the folder and run `thawslump train`.",
        )
    told = item["assets"]["model"].get("file:checksum", "")
    weights = folder / "model.safetensors"
    if told.startswith("1220") and weights.exists() and told[4:] != sha256(weights):
        raise DataError(
            f"{weights} is not the file that {folder / 'item.json'} describes: its checksum "
            "differs.",
            hint="Put back both files of one training, or train the run again.",
        )
    if ensemble is None:
        return
    chosen = [
        each
        for each in ensemble["properties"]["mlm:input"]
        if each["name"] == f"change stack of {name}"
    ]
    for each in chosen:
        if each["bands"] != entry["bands"]:
            raise DataError(
                f"The ensemble was made when {name} took the bands {', '.join(each['bands'])}; its "
                f"item now says {', '.join(entry['bands'])}.",
                hint="`thawslump ensemble` makes the ensemble of the runs as they are.",
            )
        for band, then, now in zip(
            entry["bands"], each["value_scaling"], entry["value_scaling"], strict=True
        ):
            if then != now:
                raise DataError(
                    f"The ensemble was made when {name} scaled {band} by mean {then['mean']:g} and "
                    f"deviation {then['stddev']:g}; its item now says {now['mean']:g} and "
                    f"{now['stddev']:g}.",
                    hint="`thawslump ensemble` makes the ensemble of the runs as they are.",
                )


def refuse_resolutions(sizes: Mapping[str, float]) -> None:
    """Refuse sites whose pixels are not of one size.

    Parameters
    ----------
    sizes : mapping
        Name of the site -> side of a pixel in metres.

    Raises
    ------
    DataError
        Two differ by more than a hundredth.
    """
    low, high = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
    if sizes[high] > 1.01 * sizes[low]:
        raise DataError(
            f"The pixels of {low} are {sizes[low]:g} m wide, those of {high} {sizes[high]:g} m; "
            "a model sees pixels, so a slump would have another size in each.",
            hint="Give all sites the same `resolution` and export or import them again.",
        )


def refuse_stack(stack: Path, item: Path) -> None:
    """Refuse a stack that is measured otherwise than what a model learned from.

    Parameters
    ----------
    stack : Path
    item : Path
        Of the model or the ensemble.

    Raises
    ------
    DataError
        Its pixels are of another size, or a band is in another unit, or spreads a hundred times
        as far as in training: it is stored in another scale. The band is named.
    """
    from thawslump.grid import metres_per_pixel
    from thawslump.raster import grid_of, open_raster

    properties = read_item(item)["properties"]
    size = properties.get("thawslump:resolution")
    own = metres_per_pixel(grid_of(stack))
    if size is not None and not 0.9 < own / size < 1.1:
        raise DataError(
            f"The pixels of {stack} are {own:g} m wide; the models learned from pixels of "
            f"{size:g} m.",
            hint="Give the site the `resolution` of the training sites and export it again.",
        )
    units = {band["name"]: band.get("unit") for band in properties.get("bands", [])}
    spreads = {
        band: (scaling["mean"], scaling["stddev"])
        for entry in properties["mlm:input"]
        for band, scaling in zip(entry["bands"], entry["value_scaling"], strict=True)
        # 1 stands for "as it is": classes, masks and bands that did not vary in training.
        if scaling["stddev"] != 1 and band not in entry.get("thawslump:classes", {})
    }
    with open_raster(stack) as source:
        names = {name: i for i, name in enumerate(source.descriptions, start=1)}
        for band, unit in units.items():
            if band not in names:
                continue
            own_unit = source.units[names[band] - 1]
            if unit and own_unit and own_unit != unit:
                raise DataError(
                    f"Band {band} of {stack} is in {own_unit}; the models learned it in {unit}.",
                    hint="Export or import the stack again in that unit.",
                )
        shape = (min(_SAMPLE, source.height), min(_SAMPLE, source.width))
        for band, (mean, deviation) in spreads.items():
            if band not in names:
                continue
            index = names[band]
            values = source.read(index, out_shape=shape, masked=True).astype("float64")
            plain = values.filled(np.nan) * source.scales[index - 1] + source.offsets[index - 1]
            plain = plain[np.isfinite(plain)]
            if plain.size and plain.std() > _SPREAD * deviation:
                raise DataError(
                    f"Band {band} of {stack} spreads by {plain.std():.3g} around "
                    f"{plain.mean():.3g}; in training by {deviation:.3g} around {mean:.3g}. It is "
                    "stored in another scale.",
                    hint="Give the band its scale in the file, or export or import it again.",
                )
