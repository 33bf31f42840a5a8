"""Training of one model: crops in, the weights of the best epoch out, and never half a run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thawslump.errors import DataError, ThawslumpError
from thawslump.files import atomic, sha256, write_json, write_text
from trainer import metrics
from trainer.chips import (
    Chips,
    Scaling,
    Tile,
    band_names,
    fit_scaling,
    read_reviewed,
    read_tile,
    unseen,
)
from trainer.segmentation import cards
from trainer.segmentation.checkpoint import (
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from trainer.segmentation.losses import loss_function
from trainer.segmentation.models import build, parameters
from trainer.segmentation.parts import by_part, counts, with_soft
from trainer.segmentation.predict import Floats, Member, predict_array

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = [
    "Diverged",
    "Fitted",
    "Recipe",
    "fit",
    "learning_rate_at",
    "reproducible",
    "run",
    "validate",
]

State = dict[str, Tensor]

VERSION = 2
"""Raised when equal settings and inputs give other weights (`trainer.steps.TRAINING` follows)."""


class Diverged(ThawslumpError):
    """The loss or the output of a model stopped being a number: the run failed, without a score."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; see `trainer.config.RunConfig` and `SegmentationConfig`."""

    architecture: str
    encoder: str
    depth: int | None
    loss: str
    learning_rate: float
    seed: int
    batch: int
    iterations: int
    epochs: int
    patience: int
    schedule: str
    weight_decay: float
    flips: bool
    jitter: float
    background_share: float
    rejected_share: float


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Attributes
    ----------
    weights : dict of Tensor
        State dict of the best epoch.
    epoch : int
        That epoch, from 1.
    history : list of dict
        One row per epoch: epoch, loss, learning_rate and the scores on validation.
    """

    weights: State
    epoch: int
    history: list[dict[str, float]]


@contextlib.contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seed torch, fix its thread count, allow deterministic algorithms only; undo it at the end.

    The same machine then gives the same bits for the same seed and thread count.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


def learning_rate_at(iteration: int, total: int, highest: float, schedule: str = "cosine") -> float:
    """Return the learning rate of an iteration, counted from 0.

    Examples
    --------
    >>> learning_rate_at(0, 100, 1.0, "constant")
    1.0
    >>> [round(learning_rate_at(i, 100, 1.0), 2) for i in (0, 4, 5, 99)]
    [0.2, 1.0, 1.0, 0.0]
    """
    if schedule == "constant":
        return highest
    rise = max(1, round(0.05 * total))
    if iteration < rise:
        return highest * (iteration + 1) / rise
    return highest * 0.5 * (1 + math.cos(math.pi * (iteration - rise) / max(1, total - rise)))


def validate(
    model: nn.Module, scaling: Scaling, tiles: Sequence[Tile]
) -> tuple[metrics.Counts, list[Floats]]:
    """Predict whole validation images.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    scaling : Scaling
        Bands of the tiles, in order.
    tiles : sequence of Tile

    Returns
    -------
    found : ndarray of int64, shape (2, LEVELS + 1)
        Histogram over all tiles, see `trainer.metrics.histogram`.
    maps : list of ndarray of float32, shape (y, x)
        Probability of each tile; NaN is nodata.

    Raises
    ------
    DataError
        The model returned a value that is not finite.
    """
    every = tuple(range(len(scaling.bands)))
    member = Member("model", model, every, scaling.mean, scaling.std, scaling.classes)
    maps = [predict_array([member], tile.array).probability for tile in tiles]
    found = sum(
        (metrics.histogram(p, t.labels) for p, t in zip(maps, tiles, strict=True)),
        np.zeros((2, metrics.LEVELS + 1), dtype="int64"),
    )
    return found, maps


def fit(
    chips: Chips,
    validation: Sequence[Tile],
    scaling: Scaling,
    recipe: Recipe,
    *,
    state: Path | None = None,
    fingerprint: str = "",
    progress: Callable[[float, str], None] = lambda fraction, words: None,
) -> Fitted:
    """Train one model; continue where an earlier call with the same arguments was stopped.

    Parameters
    ----------
    chips : Chips
    validation : sequence of Tile
        Whole images; the F1 at probability 0.5 over all of them picks the epoch.
    scaling : Scaling
    recipe : Recipe
    state : Path, optional
        File in which the state after each epoch is kept. With it, a run that was killed ends with
        the very weights of one that was not.
    fingerprint : str
        Names the run; a state with another one is not used.
    progress : callable
        (fraction, words).

    Returns
    -------
    Fitted

    Raises
    ------
    Diverged
        The loss or the output is not finite.
    DataError
        No validation image has a slump pixel: no score could be given.
    """
    if not any((tile.labels == 1).any() for tile in validation):
        raise DataError(
            "The validation sites hold no slump pixel, so no F1 can be computed "
            f"({', '.join(tile.name for tile in validation) or 'there is none'}).",
            hint="Give a site with known slumps the role validation.",
        )
    model = build(recipe.architecture, recipe.encoder, scaling.channels, recipe.depth)
    # One multi-tensor update instead of one small one per weight.
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    loss_of = loss_function(recipe.loss)
    total = recipe.epochs * recipe.iterations
    history: list[dict[str, float]] = []
    best: State = {}
    best_epoch = 0

    kept = load_state(state, fingerprint) if state is not None else None
    if kept is not None:
        tensors, facts = kept
        history, best_epoch = facts["history"], facts["best_epoch"]
        model.load_state_dict(_under(tensors, "model."))
        best = _under(tensors, "best.")
        restore_optimizer(optimizer, model, _under(tensors, "optimizer."))
        generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["rng"])

    for epoch in range(len(history) + 1, recipe.epochs + 1):
        if best_epoch and epoch - 1 - best_epoch >= recipe.patience:
            break
        model.train()
        losses = []
        for step in range(recipe.iterations):
            iteration = (epoch - 1) * recipe.iterations + step
            rate = learning_rate_at(iteration, total, recipe.learning_rate, recipe.schedule)
            for group in optimizer.param_groups:
                group["lr"] = rate
            images, labels = chips.draw(
                generator,
                recipe.batch,
                flips=recipe.flips,
                jitter=recipe.jitter,
                background=recipe.background_share,
                rejected=recipe.rejected_share,
            )
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(images), labels)
            value = loss.item()
            if not math.isfinite(value):
                raise _diverged(recipe, f"the loss became {value}", epoch, step + 1)
            loss.backward()
            optimizer.step()
            losses.append(value)
            progress((iteration + 1) / (total + 1), f"epoch {epoch} of {recipe.epochs}")
        model.eval()
        try:
            found, _ = validate(model, scaling, validation)
        except DataError as error:
            raise _diverged(recipe, "the output is not finite", epoch, recipe.iterations) from error
        scores = metrics.scores(metrics.counts_at(found, 0.5))
        row = {
            "epoch": epoch,
            "loss": float(np.mean(losses)),
            "learning_rate": rate,
            "f1": scores.f1,
            "precision": scores.precision if scores.tp + scores.fp else 0.0,
            "recall": scores.recall,
            "iou": scores.iou,
            "average_precision": metrics.average_precision(found),
        }
        history.append(row)
        if not best_epoch or row["f1"] > history[best_epoch - 1]["f1"]:
            best_epoch = epoch
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        progress(epoch * recipe.iterations / (total + 1), f"epoch {epoch}: F1 {row['f1']:.3f}")
        if state is not None:
            save_state(
                state,
                {
                    **_over(model.state_dict(), "model."),
                    **_over(best, "best."),
                    **_over(optimizer_tensors(optimizer), "optimizer."),
                    "generator": generator.get_state(),
                    "rng": torch.get_rng_state(),
                },
                {"fingerprint": fingerprint, "history": history, "best_epoch": best_epoch},
            )
    return Fitted(best, best_epoch, history)


def _diverged(recipe: Recipe, what: str, epoch: int, step: int) -> Diverged:
    return Diverged(
        f"{recipe.architecture} on {recipe.encoder} "
        f"({recipe.loss}, rate {recipe.learning_rate:g}): "
        f"{what} in epoch {epoch}, iteration {step}. The run has no score.",
        hint="Lower its learning_rate or choose another loss; the other runs are kept.",
    )


def _over(tensors: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _under(tensors: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def fingerprint_of(settings: Any, inputs: Sequence[Path]) -> str:
    """Return a name of the run that changes with its settings, its inputs and the torch version."""
    content = json.dumps(
        [VERSION, settings, [sha256(path) for path in inputs], torch.__version__], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _bands_of(setting: str, stacks: Sequence[Path]) -> tuple[str, ...]:
    """Return the bands of a setting that any training stack has."""
    from thawslump.bands import bands_of

    present: dict[str, None] = {}
    for stack in stacks:
        present.update(dict.fromkeys(band_names(stack)))
    return bands_of(setting, tuple(present))


def _counted(tiles: Sequence[Tile], scaling: Scaling) -> dict[str, Any]:
    """Return what a run says of each site, over all its pieces: an area may be read in several.

    The share of values that were filled; the share of pixels whose class no training site has, by
    band, which see the training mean (sites without any are left out); the slump pixels.
    """
    filled: dict[str, float] = {}
    strange: dict[str, dict[str, float]] = {}
    slumps: dict[str, int] = {}
    for name in dict.fromkeys(tile.name for tile in tiles):
        parts = [tile for tile in tiles if tile.name == name]
        sizes = np.array([tile.labels.size for tile in parts])
        filled[name] = round(float(np.average([t.filled for t in parts], weights=sizes)), 6)
        slumps[name] = sum(int((tile.labels == 1).sum()) for tile in parts)
        counts = sum(unseen(tile.array, scaling.classes) for tile in parts)
        shares = {
            band: round(int(count) / int(sizes.sum()), 6)
            for band, count in zip(scaling.bands, np.asarray(counts), strict=True)
            if count
        }
        if shares:
            strange[name] = shares
    return {"filled": filled, "unseen_classes": strange, "slump_pixels": slumps}


def _bounds(stacks: Sequence[Path]) -> list[float]:
    from thawslump.grid import box_of_all, lonlat_bounds
    from thawslump.raster import grid_of

    return [round(v, 7) for v in box_of_all([lonlat_bounds(grid_of(path)) for path in stacks])]


def interval(
    maps: Sequence[NDArray[np.floating[Any]]],
    tiles: Sequence[Tile],
    threshold: float,
    block: int = 64,
) -> dict[str, Any]:
    """Return the 95 % interval of F1 from drawing whole blocks of the tiles."""
    blocks = np.concatenate(
        [
            metrics.block_counts(p, tile.labels, threshold, block)
            for p, tile in zip(maps, tiles, strict=True)
        ]
    )
    low, high = metrics.bootstrap(blocks)
    return {"low": low, "high": high, "blocks": len(blocks), "block_pixels": block}


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Train one run of the grid (target of the step ``train``).

    Inputs: stack and labels of each site in ``settings["sites"]``, in order. Outputs:
    model.safetensors, item.json, README.md, metrics.json, history.json.
    """
    from safetensors.torch import save

    from thawslump.grid import metres_per_pixel
    from thawslump.raster import grid_of
    from trainer.segmentation.checks import refuse_resolutions

    settings = item.settings
    recipe = Recipe(
        **{key: settings["run"][key] for key in settings["run"] if key not in ("bands",)},
        **{key: settings[key] for key in Recipe.__annotations__ if key in settings},
    )
    sites = settings["sites"]
    last = 2 * len(sites)
    pairs = list(zip(item.inputs[0:last:2], item.inputs[1:last:2], strict=True))
    learned = [site["name"] for site in sites if site["role"] == "train"]
    soft = dict(zip(learned, item.inputs[last:], strict=False))
    progress(0.0, "read tiles")
    trained = [p[0] for p, site in zip(pairs, sites, strict=True) if site["role"] == "train"]
    sides = {
        site["name"]: metres_per_pixel(grid_of(stack))
        for (stack, _), site in zip(pairs, sites, strict=True)
    }
    refuse_resolutions(sides)
    bands = _bands_of(settings["run"]["bands"], trained)
    tiles: list[Tile] = []
    for (stack, labels), site in zip(pairs, sites, strict=True):
        if site["role"] == "area":
            name, margin = site["name"], settings["crop"]
            found = read_reviewed(stack, labels, bands, name=name, margin=margin)
        else:
            found = [read_tile(stack, labels, bands, name=site["name"])]
        if settings.get("labels") == "soft" and site["role"] != "validation":
            found = [with_soft(tile, stack, soft.get(tile.name)) for tile in found]
        tiles += found
    roles = {site["name"]: site["role"] for site in sites}
    parts = by_part(tiles, roles, settings.get("split"))
    training, validation = parts["train"], parts["validation"]
    if "split" in settings:  # what is held out for the test is not even counted
        tiles = [*training, *validation]
    # Areas join later with reviewed places only; the scaling stays that of the training sites.
    scaling = fit_scaling((t.array for t in training if roles[t.name] == "train"), bands)

    folder = item.outputs[0].parent
    state = folder / "checkpoint" / "state.safetensors"
    with reproducible(recipe.seed, settings["threads"]):
        chips = Chips(training, scaling, settings["crop"])
        fitted = fit(
            chips,
            validation,
            scaling,
            recipe,
            state=state,
            fingerprint=fingerprint_of(dict(settings), item.inputs),
            progress=progress,
        )
        model = build(recipe.architecture, recipe.encoder, scaling.channels, recipe.depth)
        model.load_state_dict(fitted.weights)
        model.eval()
        histogram, maps = validate(model, scaling, validation)

    scores = metrics.scores(metrics.counts_at(histogram, 0.5))
    content: dict[str, Any] = {
        "run": item.name,
        "epoch": fitted.epoch,
        "epochs": len(fitted.history),
        "bands": list(bands),
        "validation": {
            "threshold": 0.5,
            **{key: _json(value) for key, value in scores.as_dict().items()},
            "average_precision": metrics.average_precision(histogram),
            "f1_interval": interval(maps, validation, 0.5),
        },
        **_counted(tiles, scaling),
        "parameters": parameters(model),
    }
    if "split" in settings:
        content["split"] = {**settings["split"], "parts": counts(parts)}
    outputs = {path.name: path for path in item.outputs}
    with atomic(outputs["model.safetensors"]) as temporary:
        weights = {name: value.contiguous() for name, value in fitted.weights.items()}
        temporary.write_bytes(save(weights))
    made_up = any(site["made_up"] for site in sites)
    hyperparameters = {
        **settings["run"],
        **{key: settings[key] for key in settings if key not in ("run", "sites")},
    }
    stac = cards.model_item(
        item.name,
        hyperparameters=hyperparameters,
        bands=bands,
        mean=scaling.mean,
        std=scaling.std,
        classes=scaling.classes,
        weights=outputs["model.safetensors"],
        parameters=content["parameters"],
        framework_version=torch.__version__.split("+")[0],
        bounds=_bounds(trained),
        dates=(
            min((site["start"] for site in sites if site["start"]), default=None),
            max((site["end"] for site in sites if site["end"]), default=None),
        ),
        made_up=made_up,
        resolution=round(next(iter(sides.values())), 4),
    )
    write_json(outputs["item.json"], stac)
    write_text(
        outputs["README.md"],
        cards.model_card(
            item.name,
            words="Finds retrogressive thaw slumps in a stack of Sentinel-1 and Sentinel-2 change.",
            facts={**hyperparameters, "bands": ", ".join(bands), "best epoch": fitted.epoch},
            scores={
                "f1": scores.f1,
                "iou": scores.iou,
                "average_precision": content["validation"]["average_precision"],
            },
            sites={
                "trained on": _names(training, roles, "train" if "split" in settings else ""),
                "epoch chosen on": _names(
                    validation, roles, "validation" if "split" in settings else ""
                ),
            },
            made_up=made_up,
        ),
    )
    write_json(outputs["history.json"], fitted.history)
    write_json(outputs["metrics.json"], content)
    shutil.rmtree(state.parent, ignore_errors=True)
    return {
        "f1": round(scores.f1, 4),
        "epoch": fitted.epoch,
        "parameters": content["parameters"],
    }


def _names(tiles: Sequence[Tile], roles: Mapping[str, str], part: str) -> list[str]:
    """Return the names of sites, and which blocks of them were used where they were split."""
    return [
        f"{tile.name} ({part} blocks)" if part and roles[tile.name] == "train" else tile.name
        for tile in tiles
    ]


def _json(value: float | int) -> float | int | None:
    """JSON has no NaN: a score that is not defined is null."""
    return None if isinstance(value, float) and math.isnan(value) else value
