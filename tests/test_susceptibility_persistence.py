"""Models by name: what is inside, scikit-learn's own checks, files that give back the model."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.utils.estimator_checks import check_estimator

from thawslump.errors import DataError
from trainer.susceptibility import persistence
from trainer.susceptibility.average import SpatialAverage
from trainer.susceptibility.ensembles import Blending, Pooling, Stacking, SupportVectors
from trainer.susceptibility.networks import FactorCnn, Mlp
from trainer.susceptibility.persistence import load_model, save_model
from trainer.susceptibility.registry import NAMES, ClassesPass, build
from trainer.susceptibility.windows import PatchCnn


def samples(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Made-up samples: two numbers with gaps, one column of a class."""
    dice = np.random.default_rng(0)
    x = dice.normal([100, -3, 0], [20, 0.5, 1], (count, 3))
    y = (x[:, 0] > 100).astype(int)
    x[:, 2] = dice.random(count) < 0.3
    x[::7, 1] = np.nan
    return x, y


def made(name: str, **more: Any) -> Any:
    """A model of the registry with networks that take a moment only."""
    model = build(name, device="cpu", classes=(2,), **more)
    names = {key: 2 for key in model.get_params() if key.split("__")[-1] == "epochs"}
    for part in getattr(model, "bases", {}).values():
        part.set_params(**{k: 2 for k in part.get_params() if k.split("__")[-1] == "epochs"})
    return model.set_params(**names)


def fitted(name: str, **more: Any) -> Any:
    x, y = samples()
    with warnings.catch_warnings():
        # imbalanced-learn on new releases of scikit-learn; not about our models.
        warnings.simplefilter("ignore", FutureWarning)
        return made(name, **more).fit(x, y)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    "Equal probabilities, names of the features, equal bytes for an equal model"
    x, _ = samples()
    model = fitted(name)
    save_model(tmp_path / "a.model", model, ("elevation", "slope", "ice"))
    again, features = load_model(tmp_path / "a.model")
    assert features == ("elevation", "slope", "ice")
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    save_model(tmp_path / "b.model", fitted(name), features)
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    held = set(zipfile.ZipFile(tmp_path / "a.model").namelist())
    networks = name in ("mlp", "cnn", "cnn_small", "stacking", "blending")
    assert ("weights.safetensors" in held) == networks


def test_networks_of_windows_come_back_too(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 2, 5, 5))
    model = PatchCnn((4, 4), units=4, epochs=2, turn=True, device="cpu").fit(x, np.arange(20) % 2)
    save_model(tmp_path / "a.model", model)
    again, _ = load_model(tmp_path / "a.model")
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_stacked_networks_keep_their_own_weights_apart(tmp_path: Path) -> None:
    x, _ = samples()
    model = fitted("stacking", bases=("mlp", "cnn", "cnn_small"))
    save_model(tmp_path / "a.model", model)
    again, _ = load_model(tmp_path / "a.model")
    np.testing.assert_array_equal(again.base_probabilities(x), model.base_probabilities(x))


def rewritten(path: Path, change: dict[str, bytes], sums: bool = True) -> Path:
    """Put other parts into a file, with checksums that agree where `sums`."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()} | change
    head = json.loads(parts["model.json"])
    if sums:
        head["sha256"] = {
            n: hashlib.sha256(p).hexdigest() for n, p in parts.items() if n != "model.json"
        }
    parts["model.json"] = json.dumps(head).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return path


class Command:
    """Would write a file if it were built from one, as a pickle would."""

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return Path.write_text, (Path("owned"), "code ran")


def test_what_was_tampered_with_is_refused(tmp_path: Path) -> None:
    "Damage is found by checksums; what comes with right checksums is held to types and shapes"
    path = tmp_path / "a.model"
    save_model(path, fitted("mlp"))
    whole = path.read_bytes()
    weights = zipfile.ZipFile(path).read("weights.safetensors")

    rewritten(path, {"weights.safetensors": weights[:-4] + b"\0\0\0\1"}, sums=False)
    with pytest.raises(DataError, match=r"changed after it was written: weights\.safetensors"):
        load_model(path)

    path.write_bytes(whole)
    from safetensors.numpy import load, save

    held = load(weights)
    short = {name: part[:1] if part.ndim == 2 else part for name, part in held.items()}
    rewritten(path, {"weights.safetensors": save(short)})
    with pytest.raises(DataError, match="Weights of a Mlp do not fit its layout"):
        load_model(path)

    path.write_bytes(whole)
    rewritten(path, {"weights.safetensors": b"no tensors"})
    with pytest.raises(DataError, match="does not hold a susceptibility model"):
        load_model(path)

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="does not hold a susceptibility model"):
        load_model(path)


def test_foreign_files_are_refused_and_run_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.model"
    save_model(path, fitted("logistic"))
    rewritten(path, {"estimator.skops": skops.io.dumps(Command())})
    with pytest.raises(DataError, match=r"holds types that are not read from files: .*Command"):
        load_model(path)
    rewritten(path, {"estimator.skops": skops.io.dumps([1, 2])})
    with pytest.raises(DataError, match="holds a list; a fitted Pipeline was expected"):
        load_model(path)

    import pickle

    for content in (pickle.dumps(Command()), b"", b"PK"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="does not hold a susceptibility model"):
            load_model(path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("schema.json", "{}")
    path.write_bytes(archive.getvalue())
    with pytest.raises(DataError, match="does not hold a susceptibility model"):
        load_model(path)
    assert not (tmp_path / "owned").exists()


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    save_model(path, fitted("logistic"))
    head = json.loads(zipfile.ZipFile(path).read("model.json")) | {"version": 2}
    rewritten(path, {"model.json": json.dumps(head).encode()}, sums=False)
    with pytest.raises(DataError, match="is of version 2; version 1 is read"):
        load_model(path)


def test_what_another_release_lacks_is_said_with_the_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.model"
    save_model(path, fitted("logistic"))

    def gone(*given: Any, **more: Any) -> Any:
        raise AttributeError("module has no attribute 'SimpleImputer'")

    monkeypatch.setattr(skops.io, "loads", gone)
    release = version("scikit-learn")
    with pytest.raises(
        DataError, match=f"cannot be built here .*written with scikit-learn {release}, skops"
    ):
        load_model(path)


def test_damage_anywhere_is_said_and_never_a_traceback(tmp_path: Path) -> None:
    "Random bytes changed or cut off in 300 copies: refused in words, or equal after all"
    path, dice = tmp_path / "a.model", np.random.default_rng(0)
    save_model(path, fitted("logistic"))
    whole, refused = path.read_bytes(), 0
    for number in range(300):
        spoilt = bytearray(whole)
        for place in dice.integers(0, len(whole), 2):
            spoilt[place] = dice.integers(256)
        path.write_bytes(spoilt[: dice.integers(len(whole))] if number % 5 == 0 else spoilt)
        try:
            load_model(path)
        except DataError:
            refused += 1
    assert refused > 280
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.model"
    save_model(path, fitted("logistic"))
    monkeypatch.setattr(persistence, "_MOST", 1000)
    with pytest.raises(DataError, match=r"unpacks to \d+ bytes"):
        load_model(path)


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    x, y = samples()
    model = GaussianProcessClassifier(kernel=None).fit(np.nan_to_num(x), y)
    model.extra_ = Command()
    with pytest.raises(DataError, match="holds types that would not be read from a file"):
        save_model(tmp_path / "a.model", model)
    assert not (tmp_path / "a.model").exists()


def test_pipelines_hold_the_papers_numbers() -> None:
    forest = build("forest").named_steps["model"]
    assert (forest.n_estimators, forest.max_depth) == (100, 8)
    small = build("forest_small").named_steps["model"]
    assert (small.n_estimators, small.max_depth, small.criterion) == (50, 3, "gini")
    svr = build("svr").named_steps["model"]
    assert (svr.C, svr.epsilon, svr.kind) == (1.0, 0.1, "regression")
    mlp = build("mlp").named_steps["model"]
    assert (mlp.hidden, mlp.batch, mlp.epochs, mlp.rate) == ((512, 256, 128), 128, 180, 1e-4)
    assert build("cnn").named_steps["model"]._schedule() == (120, 128, 1e-6)
    assert build("cnn_small").named_steps["model"]._schedule()[0] == 500
    bagging = build("bagging").named_steps["model"]
    assert bagging.n_estimators == 10 and isinstance(bagging.estimator, SupportVectors)
    assert build("bagging", base="forest").named_steps["model"].estimator.max_depth == 8
    stacked = build("stacking")
    assert list(stacked.bases) == ["cnn", "svr", "mlp"] and stacked.final.max_depth == 8
    assert isinstance(build("blending", upper="pooling").final, Pooling)
    assert build("blending", folds=4).share == 0.25


def test_columns_of_classes_are_passed_on_and_filled_with_their_share() -> None:
    x, y = samples()
    x[3, 2] = np.nan
    pipe = build("logistic", classes=(2,)).fit(x, y)
    into = pipe[:-1].transform(x)
    assert set(np.unique(np.delete(into[:, 2], 3))) == {0.0, 1.0}
    assert into[3, 2] == pytest.approx(np.nanmean(x[:, 2]))
    np.testing.assert_allclose(into[:, :2].std(axis=0), 1)
    with pytest.raises(DataError, match=r"Columns of classes \[3\] were named, of 3 columns"):
        build("logistic", classes=(3,)).fit(x, y)


def test_names_that_make_no_model_are_refused() -> None:
    with pytest.raises(DataError, match=r"Upper model .magic. given; known are forest, pooling"):
        build("stacking", upper="magic")
    with pytest.raises(DataError, match="Models below stacking are blending"):
        build("stacking", bases=["blending"])
    with pytest.raises(DataError, match='Bagging of "stacking" was asked for'):
        build("bagging", base="stacking")


@pytest.mark.parametrize(
    "estimator",
    [
        SupportVectors(),
        SupportVectors(kind="classification"),
        SpatialAverage(),
        Mlp((8,), epochs=30, rate=0.02, device="cpu"),
        FactorCnn("zhang", epochs=40, rate=0.02, device="cpu"),
        ClassesPass(),
        Stacking({"line": build("logistic"), "vectors": build("svr")}, Pooling(), folds=3),
        Blending({"line": build("logistic")}, Pooling(), again=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_estimators_keep_to_the_rules_of_scikit_learn(estimator: Any) -> None:
    # In single precision a row's last digits may differ with the rows beside it.
    inexact = {"check_methods_subset_invariance": "float32"}
    single = isinstance(estimator, SupportVectors | Mlp | FactorCnn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke warnings of scikit-learn's own
        found = check_estimator(
            estimator, expected_failed_checks=inexact if single else {}, on_skip=None
        )
    assert sum(check["status"] == "passed" for check in found) > 45
