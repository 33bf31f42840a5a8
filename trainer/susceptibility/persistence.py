"""Files of fitted models, of any kind, that run no code when they are read.

One zip archive: ``model.json`` (what it is, names of the features, checksums), ``estimator.skops``
(everything but networks) and, where there are networks, ``weights.safetensors``. Nothing is
pickled, and only the types named here are built.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thawslump.errors import DataError
from thawslump.files import atomic

__all__ = ["TRUSTED", "load_model", "same_bytes", "save_model"]

FORMAT = "thawslump susceptibility model"
VERSION = 1
# Beyond what skops trusts by itself (numpy's arrays and scikit-learn's estimators): types that
# hold numbers, samplers of imbalanced-learn, and our own estimators.
TRUSTED = (
    "imblearn.ensemble._bagging.BalancedBaggingClassifier",
    "imblearn.pipeline.Pipeline",
    "imblearn.under_sampling._prototype_selection._random_under_sampler.RandomUnderSampler",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "trainer.susceptibility.average.SpatialAverage",
    "trainer.susceptibility.ensembles.Blending",
    "trainer.susceptibility.ensembles.Pooling",
    "trainer.susceptibility.ensembles.Stacking",
    "trainer.susceptibility.ensembles.SupportVectors",
    "trainer.susceptibility.networks.FactorCnn",
    "trainer.susceptibility.networks.Mlp",
    "trainer.susceptibility.preparation.FactorBins",
    "trainer.susceptibility.preparation.FactorSelection",
    "trainer.susceptibility.registry.ClassesFill",
    "trainer.susceptibility.registry.ClassesPass",
    "trainer.susceptibility.windows.PatchCnn",
)
# What a damaged archive makes zipfile and zlib raise.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
# Bytes that a model may unpack to: forests of a hundred deep trees have some ten million.
_MOST = 2**31
_AGAIN = "Fit the susceptibility models again, or fetch the file again."


def same_bytes(model: Any) -> dict[str, bytes]:
    """Return the parts of a model's skops file, equal for equal models.

    skops names parts by addresses in memory; here they are numbered in the order of the schema.
    """
    import skops.io

    held = zipfile.ZipFile(io.BytesIO(skops.io.dumps(model)))
    numbers: dict[str, int] = {}

    def renumbered(found: re.Match[str]) -> str:
        number = numbers.setdefault(found["id"] or found["file"], len(numbers))
        return f'"__id__": {number}' if found["id"] else f'"{number}.npy"'

    schema = re.sub(
        r'"__id__": (?P<id>\d+)|"(?P<file>\d+)\.npy"',
        renumbered,
        held.read("schema.json").decode("utf-8"),
    )
    parts = {"schema.json": schema.encode("utf-8")}
    for name in held.namelist():
        if name != "schema.json":
            parts[f"{numbers[name.removesuffix('.npy')]}.npy"] = held.read(name)
    return dict(sorted(parts.items()))


def _zipped(target: Any, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            # ZipInfo without a date: equal content, equal bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _releases() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("scikit-learn", "skops", "torch")}


def _words(releases: Any) -> str:
    if not isinstance(releases, dict) or not releases:
        return "releases that it does not name"
    return ", ".join(f"{name} {release}" for name, release in releases.items())


def save_model(path: Path, model: Any, features: Sequence[str] = ()) -> None:
    """Write a fitted model of `registry.build`, or any of its parts, atomically.

    Equal models give equal bytes.

    Parameters
    ----------
    path : Path
    model : estimator
    features : sequence of str
        Names of its columns, in order.

    Raises
    ------
    DataError
        The model holds types that `load_model` would not read.
    """
    import skops.io
    from safetensors.numpy import save

    from trainer.susceptibility.networks import aside

    weights: dict[str, Any] = {}
    token = aside.set(weights)
    try:
        inner = io.BytesIO()
        _zipped(inner, same_bytes(model))
    finally:
        aside.reset(token)
    strange = set(skops.io.get_untrusted_types(data=inner.getvalue())) - set(TRUSTED)
    if strange:
        raise DataError(
            f"{type(model).__name__} holds types that would not be read from a file: "
            f"{', '.join(sorted(strange))}.",
            hint="Save models that `build` makes.",
        )
    parts = {"estimator.skops": inner.getvalue()}
    if weights:
        parts["weights.safetensors"] = save(weights)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "class": type(model).__name__,
        "features": list(features),
        "written_with": _releases(),
        "sha256": {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()},
    }
    text = json.dumps(head, indent=1).encode("utf-8")
    with atomic(path) as temporary:
        _zipped(temporary, {"model.json": text, **parts})


def load_model(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read what `save_model` wrote.

    The checksums find damage; what keeps a hostile file from running code is that only the types
    above are built, and weights are nothing but numbers.

    Returns
    -------
    model : estimator
    features : tuple of str

    Raises
    ------
    DataError
        The file is no such model, was changed, or holds types beyond those.
    """
    import skops.io
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from trainer.susceptibility.networks import aside

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > _MOST:
                raise ValueError(f"unpacks to {size} bytes")
            parts = {name: archive.read(name) for name in archive.namelist()}
        head = json.loads(parts.pop("model.json"))
        named, features = dict(head["sha256"]), tuple(str(f) for f in head["features"])
        if head["format"] != FORMAT or "estimator.skops" not in parts:
            raise KeyError("format")
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"{path} does not hold a susceptibility model written by thawslump ({error!r}).",
            hint=_AGAIN,
        ) from error
    if head.get("version") != VERSION:
        raise DataError(
            f"{path} is of version {head.get('version')}; version {VERSION} is read.", hint=_AGAIN
        )
    found = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    if found != named:
        odd = sorted(k for k in {*found, *named} if found.get(k) != named.get(k))
        raise DataError(f"{path} was changed after it was written: {', '.join(odd)}.", hint=_AGAIN)
    try:
        weights = load(parts.get("weights.safetensors", b"")) if len(parts) > 1 else {}
        strange = set(skops.io.get_untrusted_types(data=parts["estimator.skops"]))
    except (SafetensorError, *_DAMAGE) as error:
        raise DataError(
            f"{path} does not hold a susceptibility model written by thawslump ({error!r}).",
            hint=_AGAIN,
        ) from error
    if strange - set(TRUSTED):
        raise DataError(
            f"{path} holds types that are not read from files: "
            f"{', '.join(sorted(strange - set(TRUSTED)))}.",
            hint=_AGAIN,
        )
    token = aside.set(weights)
    try:
        model = skops.io.loads(parts["estimator.skops"], trusted=list(TRUSTED))
    except DataError:
        raise
    except Exception as error:  # whatever another release's estimator lacks
        wrote, here = head.get("written_with"), _releases()
        raise DataError(
            f"{path} cannot be built here ({error!r}). It was written with {_words(wrote)}; here "
            f"is {_words(here)}.",
            hint=_AGAIN,
        ) from error
    finally:
        aside.reset(token)
    if not hasattr(model, "predict_proba") or type(model).__name__ != head["class"]:
        raise DataError(
            f"{path} holds a {type(model).__name__}; a fitted {head['class']} was expected.",
            hint=_AGAIN,
        )
    return model, features
