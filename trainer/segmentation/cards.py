"""What lies beside weights: a STAC item (Machine Learning Model extension) and a model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thawslump.bands import BANDS
from thawslump.errors import DataError
from thawslump.grid import box_of_all, geojson_box
from trainer.chips import Classes, channels_of

__all__ = ["MLM_SCHEMA", "classes_of", "ensemble_item", "model_card", "model_item", "read_item"]

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.1/schema.json"
FILE_SCHEMA = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


def _multihash(path: Path) -> str:
    # The file extension asks for multihash: 0x12 is SHA-256, 0x20 its 32 bytes.
    return "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


def _frame(
    name: str,
    properties: dict[str, Any],
    assets: dict[str, Any],
    links: list[dict[str, str]],
    bounds: Sequence[float],
    dates: Sequence[str | None],
) -> dict[str, Any]:
    west, south, east, north = bounds
    # STAC wants a time; sites of own files need not say theirs.
    first, last = dates[0] or "1900-01-01", dates[1] or "9999-01-01"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM_SCHEMA, FILE_SCHEMA],
        "id": name,
        "bbox": [west, south, east, north],
        "geometry": geojson_box((west, south, east, north)),
        "properties": {
            "datetime": None,
            "start_datetime": f"{first}T00:00:00Z",
            "end_datetime": f"{last}T00:00:00Z",
            **properties,
        },
        "links": links,
        "assets": assets,
    }


def _input(
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[Classes | None] = (),
) -> dict[str, Any]:
    given = {
        band: {"values": list(each.values), "shares": list(each.shares)}
        for band, each in zip(bands, classes, strict=False)
        if each is not None
    }
    return {
        "name": "change stack",
        "bands": list(bands),
        "input": {
            "shape": [-1, channels_of(len(bands), classes), -1, -1],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": m, "stddev": s} for m, s in zip(mean, std, strict=True)
        ],
        "resize_type": None,
        "pre_processing_function": None,
        "description": "Missing values are 0 after scaling. Height and width are multiples of 32."
        + (
            " A band named in thawslump:classes becomes one channel per class, in its place: 1 "
            "where the pixel has the class, else 0, less the class's share; all 0 where it is "
            "missing or has another class."
            if given
            else ""
        ),
        **({"thawslump:classes": given} if given else {}),
    }


def classes_of(entry: Mapping[str, Any]) -> tuple[Classes | None, ...]:
    """Return the classes of each band of an entry of mlm:input, empty where none has any.

    Items of models that were trained before bands had classes have no such field.

    Examples
    --------
    >>> classes_of({"bands": ["dVV"]})
    ()
    """
    given = entry.get("thawslump:classes") or {}
    if not given:
        return ()
    return tuple(
        Classes(tuple(given[band]["values"]), tuple(given[band]["shares"]))
        if band in given
        else None
        for band in entry["bands"]
    )


def _bands(bands: Sequence[str]) -> list[dict[str, str]]:
    """Return STAC's common band objects, which the names in mlm:input refer to."""
    found = []
    for name in bands:
        known = BANDS.get(name)
        words = {} if known is None else {"description": known.description, "unit": known.unit}
        found.append({"name": name, **words})
    return found


def _output(kind: str) -> dict[str, Any]:
    return {
        "name": "slump",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, 1, -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": 0, "name": "none", "description": "no retrogressive thaw slump"},
            {"value": 1, "name": "slump", "description": "retrogressive thaw slump"},
        ],
        "post_processing_function": None,
        "description": kind,
    }


def model_item(
    name: str,
    *,
    hyperparameters: Mapping[str, Any],
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[Classes | None] = (),
    weights: Path,
    parameters: int,
    framework_version: str,
    bounds: Sequence[float],
    dates: Sequence[str | None],
    made_up: bool,
    resolution: float | None = None,
) -> dict[str, Any]:
    """Return the STAC item of one model, with band order and scaling inside.

    Parameters
    ----------
    name : str
    hyperparameters : mapping
        ``architecture`` and ``encoder`` among them: enough to build the model again.
    bands, mean, std : sequence
        One per band, in order.
    classes : sequence of Classes or None
        One per band; empty where no band has classes.
    weights : Path
        The safetensors file, beside which the item will lie.
    parameters : int
    framework_version : str
    bounds : (west, south, east, north)
        Of the training sites, degrees.
    dates : (first, last)
        Of their imagery, YYYY-MM-DD or None.
    made_up : bool
        The training data are made up.
    resolution : float, optional
        Side of a training pixel in metres.

    Returns
    -------
    dict
        STAC 1.1, MLM 1.5.
    """
    properties = {
        "title": name,
        "description": "Segmentation of retrogressive thaw slumps."
        + (" Trained on made-up data." if made_up else ""),
        "thawslump:made_up": made_up,
        **({} if resolution is None else {"thawslump:resolution": resolution}),
        "bands": _bands(bands),
        "mlm:name": name,
        "mlm:architecture": f"{hyperparameters['architecture']} on {hyperparameters['encoder']}",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": framework_version,
        "mlm:memory_size": weights.stat().st_size,
        "mlm:total_parameters": parameters,
        "mlm:pretrained": False,
        "mlm:pretrained_source": None,
        "mlm:batch_size_suggestion": hyperparameters["batch"],
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [_input(bands, mean, std, classes)],
        "mlm:output": [_output("Logits; the sigmoid is the probability.")],
        "mlm:hyperparameters": dict(hyperparameters),
    }
    assets = {
        "model": {
            "href": f"./{weights.name}",
            "title": "Weights",
            "type": "application/octet-stream; application=safetensors",
            "roles": ["mlm:model", "mlm:weights", "data"],
            "mlm:artifact_type": "safetensors.torch.save_file",
            "file:size": weights.stat().st_size,
            "file:checksum": _multihash(weights),
        },
        "card": {
            "href": "./README.md",
            "title": "Model card",
            "type": "text/markdown",
            "roles": ["metadata"],
        },
        "metrics": {
            "href": "./metrics.json",
            "title": "Scores on validation",
            "type": "application/json",
            "roles": ["metadata"],
        },
    }
    return _frame(name, properties, assets, [], bounds, dates)


def ensemble_item(
    name: str,
    members: Mapping[str, dict[str, Any]],
    weights: Mapping[str, float],
    threshold: float,
    *,
    temperature: float = 1.0,
    figure: str | None = None,
) -> dict[str, Any]:
    """Return the STAC item of an ensemble, which links the items of its members.

    Parameters
    ----------
    name : str
    members : mapping
        Run name -> its item, in order of merit. They lie in sibling folders of those names.
    weights : mapping
        Run name -> weight in the mean; they add up to 1.
    threshold : float
        Probability from which a pixel is mapped as slump, after calibration.
    temperature : float
        The log odds of the mean are divided by it; 1 for none.
    figure : str, optional
        File beside the item: the reliability plot.

    Returns
    -------
    dict

    Raises
    ------
    DataError
        The members learned from pixels of different sizes.
    """
    items = list(members.values())
    sizes = {
        run: item["properties"]["thawslump:resolution"]
        for run, item in members.items()
        if "thawslump:resolution" in item["properties"]
    }
    if sizes and max(sizes.values()) > 1.01 * min(sizes.values()):
        low, high = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
        raise DataError(
            f"{low} learned from pixels of {sizes[low]:g} m, {high} from pixels of "
            f"{sizes[high]:g} m; they cannot vote on the same pixels.",
            hint="Train all runs on sites of one `resolution`.",
        )
    bounds = box_of_all([tuple(item["bbox"]) for item in items])
    dates = [
        min(item["properties"]["start_datetime"] for item in items)[:10],
        max(item["properties"]["end_datetime"] for item in items)[:10],
    ]
    made_up = any(item["properties"]["thawslump:made_up"] for item in items)
    properties = {
        "title": name,
        "description": f"Mean probability of {len(items)} models."
        + (" Trained on made-up data." if made_up else ""),
        "thawslump:made_up": made_up,
        "thawslump:weights": dict(weights),
        "thawslump:threshold": threshold,
        "thawslump:temperature": temperature,
        **({"thawslump:resolution": next(iter(sizes.values()))} if sizes else {}),
        "bands": list(
            {band["name"]: band for item in items for band in item["properties"]["bands"]}.values()
        ),
        "mlm:name": name,
        "mlm:architecture": f"ensemble of {len(items)}",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": items[0]["properties"]["mlm:framework_version"],
        "mlm:total_parameters": sum(item["properties"]["mlm:total_parameters"] for item in items),
        "mlm:pretrained": False,
        "mlm:pretrained_source": None,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [
            {**entry, "name": f"change stack of {run}"}
            for run, item in members.items()
            for entry in item["properties"]["mlm:input"]
        ],
        "mlm:output": [
            _output(
                "Weighted mean of the members' sigmoids (thawslump:weights)"
                + ("" if temperature == 1 else ", its log odds divided by thawslump:temperature")
                + ": a probability."
            )
        ],
    }
    links = [
        {
            "rel": "derived_from",
            "href": f"../{run}/item.json",
            "type": "application/geo+json",
            "title": run,
        }
        for run in members
    ]
    assets = {
        run: {
            "href": f"../{run}/model.safetensors",
            "title": run,
            "type": "application/octet-stream; application=safetensors",
            "roles": ["mlm:model", "mlm:weights", "data"],
            "mlm:artifact_type": "safetensors.torch.save_file",
            "file:checksum": item["assets"]["model"]["file:checksum"],
        }
        for run, item in members.items()
    }
    if figure is not None:
        assets["reliability"] = {
            "href": f"./{figure}",
            "title": "Probability said against the share that is slump",
            "type": "image/svg+xml",
            "roles": ["overview"],
        }
    return _frame(name, properties, assets, links, bounds, dates)


def read_item(path: Path) -> dict[str, Any]:
    """Read an item written by this module.

    Raises
    ------
    DataError
        It is not there or not whole.
    """
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        item["properties"]["mlm:input"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the item of a model ({type(error).__name__}: {error}).",
            hint="Train it again: `thawslump train`.",
        ) from error
    return item


def model_card(
    name: str,
    *,
    words: str,
    facts: Mapping[str, Any],
    scores: Mapping[str, float],
    sites: Mapping[str, Sequence[str]],
    made_up: bool,
    notes: Sequence[str] = (),
) -> str:
    """Return a model card in Markdown with the front matter that model hubs read.

    Parameters
    ----------
    name, words : str
    facts : mapping
        Table of settings.
    scores : mapping
        Metric -> value on the validation sites.
    sites : mapping
        Role -> site names.
    made_up : bool
    notes : sequence of str
        Lines that follow.

    Returns
    -------
    str
    """
    front = [
        "---",
        "library_name: segmentation-models-pytorch",
        "pipeline_tag: image-segmentation",
        "tags:",
        "- retrogressive-thaw-slump",
        "- permafrost",
        "metrics:",
        *(f"- {metric.replace(' ', '_')}" for metric in scores),
        "---",
    ]
    lines = [*front, "", f"# {name}", "", words, ""]
    if made_up:
        lines += ["**The training data are made up. No score here holds for a real place.**", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", "| on the validation sites | value |", "|---|---|"]
    lines += [f"| {metric} | {value:.4f} |" for metric, value in scores.items()]
    lines += [""]
    lines += [f"- {role}: {', '.join(names) or 'none'}" for role, names in sites.items()]
    lines += ["", *notes] if notes else []
    lines += [
        "",
        "The epoch with the best validation score was kept, so that score flatters the model;",
        "judge it on the test site. It knows the seasons, sensors and landscape of its training",
        "sites only: elsewhere, look at the maps of disagreement and have candidates reviewed.",
        "",
    ]
    return "\n".join(lines)
