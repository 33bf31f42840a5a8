"""The models by name, as pipelines that fill and scale inside each fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from thawslump.errors import DataError
from trainer.susceptibility.config import ModelName
from trainer.susceptibility.preparation import FactorBins, FactorSelection

__all__ = ["NAMES", "ClassesFill", "ClassesPass", "build"]

NAMES: tuple[str, ...] = get_args(ModelName)
# Below the ensembles, as in He et al. 2024 (figures 7 and 8).
BASES = ("cnn", "svr", "mlp")


class ClassesFill(SimpleImputer):
    """Fills missing values with the mean; a class that the fit never saw counts as missing.

    A fold may hold a class out whole. Its column was 0 throughout then, and what a model says of a
    1 there is an accident of its start; such cells take the shares of the classes that were seen.

    Parameters
    ----------
    groups : sequence of sequence of int
        Columns of each factor of classes (0 or 1, NaN where missing).

    Attributes
    ----------
    unseen_ : ndarray of bool, shape (features,)
        Columns of classes that the fit never saw.

    Examples
    --------
    >>> fill = ClassesFill(((0, 1),)).fit([[1.0, 0.0, 5.0], [1.0, 0.0, 7.0]])
    >>> fill.transform([[0.0, 1.0, 6.0], [float("nan"), float("nan"), float("nan")]]).tolist()
    [[1.0, 0.0, 6.0], [1.0, 0.0, 6.0]]
    """

    def __init__(self, groups: Sequence[Sequence[int]] = ()) -> None:
        # A factor missing in the whole training part keeps its column (0 after scaling).
        super().__init__(strategy="mean", keep_empty_features=True)
        self.groups = groups

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn means, and which classes there are."""
        super().fit(X, y)
        values = np.asarray(X)
        self.unseen_ = np.zeros(values.shape[1], bool)
        for columns in self.groups:
            at = np.asarray(columns, int)
            self.unseen_[at] = ~(values[:, at] > 0).any(axis=0)
        return self

    def transform(self, X: ArrayLike) -> Any:
        """Fill; rows of a class that was not seen first lose all columns of that factor."""
        if not self.unseen_.any():
            return super().transform(X)
        values = np.array(X)
        for columns in self.groups:
            at = np.asarray(columns, int)
            rows = (values[:, at[self.unseen_[at]]] > 0).any(axis=1)
            values[np.flatnonzero(rows)[:, None], at] = np.nan
        return super().transform(values)


class ClassesPass(StandardScaler):
    """Standardises columns but those of classes, which pass as they are (0, 1 or a share).

    Parameters
    ----------
    classes : sequence of int
        Columns that pass.

    Examples
    --------
    >>> ClassesPass((1,)).fit_transform([[1.0, 0.0], [3.0, 1.0]]).tolist()
    [[-1.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, classes: Sequence[int] = ()) -> None:
        super().__init__()
        self.classes = classes

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn means and spreads."""
        super().fit(X, y, sample_weight)
        chosen = list(self.classes)
        if chosen and not (min(chosen) >= 0 and max(chosen) < self.n_features_in_):
            raise DataError(
                f"Columns of classes {chosen} were named, of {self.n_features_in_} columns.",
                hint="Give positions in the order of the features, from 0.",
            )
        self.mean_[chosen], self.scale_[chosen], self.var_[chosen] = 0.0, 1.0, 1.0
        return self


def build(
    name: str,
    *,
    trees: int = 100,
    depth: int = 8,
    seed: int = 0,
    device: str = "auto",
    classes: Sequence[int] = (),
    subsets: Sequence[Sequence[int]] | None = None,
    base: str = "svr",
    bases: Sequence[str] = BASES,
    upper: str = "forest",
    folds: int = 5,
    factors: Sequence[str] | None = None,
    vif: float | None = None,
    pearson: float | None = None,
    chimerge: bool = False,
    chimerge_intervals: int = 8,
    chimerge_alpha: float = 0.05,
) -> Any:
    """Return an unfitted model; filling and scaling are inside it, so they are fitted per fold.

    Fit it with `ensembles.fit_on_ground`, which hands blocks of ground to those that split by
    them; all others are fitted as usual.

    Parameters
    ----------
    name : str
        - ``logistic``: L2, C = 1.
        - ``forest``: random forest, 100 trees of depth 8 (He et al. 2024); ``forest_small``: 50 of
          depth 3 (Zhang et al. 2023).
        - ``boosting``: histogram gradient boosting, 100 rounds of 8 leaves at rate 0.05.
        - ``svr``, ``svc``: `ensembles.SupportVectors` (radial, C = 1, epsilon = 0.1).
        - ``mlp``: 512, 256, 128 (He et al. 2024).
        - ``cnn``, ``cnn_small``: `networks.FactorCnn` as in He et al. and in Zhang et al.
        - ``bagging``: ten of `base` on balanced bootstraps (He et al. 2024).
        - ``stacking``, ``blending``: `bases` below, `upper` above.
        - ``spatial_average``: `average.SpatialAverage`, which chooses nothing.
    trees, depth : int
        Of ``forest``.
    seed : int
    device : {"auto", "cpu", "cuda"}
        Of networks and support vectors.
    classes : sequence of int
        Columns that hold classes (0 or 1): filled with their share, never scaled.
    subsets : sequence of sequence of int, optional
        Columns of the members of ``spatial_average`` (`average.subsets`).
    base : str
        Of ``bagging``: a name as above.
    bases : sequence of str
        Of ``stacking`` and ``blending``.
    upper : {"forest", "pooling", "logistic"}
        Above them; the forest as in the paper.
    folds : int
        Inner folds of ``stacking``; ``blending`` holds one of as many out.
    factors : sequence of str, optional
        Factor of each column, where factors have several (`models.feature_factors`). With them a
        class that a fit never saw counts as missing (`ClassesFill`).
    vif, pearson : float, optional
        Limits of `preparation.FactorSelection`, which then drops factors in each fit; not in
        ``spatial_average``, which chooses nothing.
    chimerge : bool
        Whether numbers become the numbers of their intervals (`preparation.FactorBins`).
    chimerge_intervals, chimerge_alpha
        Of these intervals, and of those by which factors are worth more or less.

    Returns
    -------
    estimator
        A pipeline with the steps fill, bins (where asked for), scale, select (where asked for) and
        model; the last three names have these steps inside their parts.

    Raises
    ------
    DataError
        Another name.

    Examples
    --------
    >>> list(build("logistic").named_steps)
    ['fill', 'scale', 'model']
    """
    from trainer.susceptibility.average import SpatialAverage
    from trainer.susceptibility.ensembles import Blending, Stacking

    if name == "spatial_average":
        return SpatialAverage(columns=subsets, seed=seed)
    if name in ("stacking", "blending"):
        if not bases or set(bases) & {"stacking", "blending"}:
            raise DataError(
                f"Models below {name} are {', '.join(bases) or 'none'}.",
                hint=f"Give some of {', '.join(n for n in NAMES if n not in _ABOVE)}.",
            )
        below = {
            each: build(each, trees=trees, depth=depth, seed=seed, device=device, classes=classes,
                        subsets=subsets, base=base, factors=factors, vif=vif, pearson=pearson,
                        chimerge=chimerge, chimerge_intervals=chimerge_intervals,
                        chimerge_alpha=chimerge_alpha)
            for each in bases
        }  # fmt: skip
        above = _upper(upper, seed)
        if name == "stacking":
            return Stacking(below, above, folds=folds, seed=seed)
        return Blending(below, above, share=1.0 / folds, seed=seed)
    fill = ClassesFill(_groups(classes, factors))
    # Trees do not need scaling; it stays so that every model has the same three steps.
    scale = ClassesPass(tuple(classes)) if len(classes) else StandardScaler()
    model = _single(name, trees, depth, seed, device, base)
    steps: list[tuple[str, Any]] = [("fill", fill)]
    if chimerge:
        bins = FactorBins(chimerge_intervals, chimerge_alpha, tuple(classes))
        steps.append(("bins", bins))
    steps.append(("scale", scale))
    if chimerge or vif is not None or pearson is not None:
        named = None if factors is None else tuple(factors)
        select = FactorSelection(
            named, tuple(classes), vif, pearson, chimerge_intervals, chimerge_alpha
        )
        steps.append(("select", select))
    return Pipeline([*steps, ("model", model)])


_ABOVE = ("stacking", "blending")


def _groups(classes: Sequence[int], factors: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Return the columns of each factor of classes; none where it is not known which are one's."""
    if factors is None:
        return ()
    found: dict[str, list[int]] = {}
    for column in classes:
        found.setdefault(factors[column], []).append(int(column))
    return tuple(tuple(columns) for columns in found.values())


def _single(name: str, trees: int, depth: int, seed: int, device: str, base: str) -> Any:
    from trainer.susceptibility.ensembles import SupportVectors, balanced_bagging
    from trainer.susceptibility.networks import FactorCnn, Mlp

    if name == "logistic":
        return LogisticRegression(max_iter=1000)
    if name in ("forest", "forest_small"):
        count, deep = (trees, depth) if name == "forest" else (50, 3)
        return RandomForestClassifier(
            n_estimators=count, max_depth=deep, random_state=seed, n_jobs=1
        )
    if name == "boosting":
        return HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=8, random_state=seed
        )
    if name in ("svr", "svc"):
        kind = "regression" if name == "svr" else "classification"
        return SupportVectors(kind=kind, seed=seed, device=device)  # type: ignore[arg-type]
    if name == "mlp":
        return Mlp(seed=seed, device=device)
    if name in ("cnn", "cnn_small"):
        return FactorCnn("he" if name == "cnn" else "zhang", seed=seed, device=device)
    if name == "bagging":
        if base in (*_ABOVE, "bagging", "spatial_average"):
            raise DataError(
                f'Bagging of "{base}" was asked for.', hint="Give a single model, such as svr."
            )
        return balanced_bagging(_single(base, trees, depth, seed, device, base), seed=seed)
    raise DataError(
        f'Susceptibility model "{name}" given; known are {", ".join(NAMES[:-1])} and {NAMES[-1]}.'
    )


def _upper(name: str, seed: int) -> Any:
    from trainer.susceptibility.ensembles import Pooling

    if name == "pooling":
        return Pooling()
    if name == "logistic":
        return LogisticRegression(max_iter=1000)
    if name == "forest":
        return RandomForestClassifier(n_estimators=100, max_depth=8, random_state=seed, n_jobs=1)
    raise DataError(
        f'Upper model "{name}" given; known are forest, pooling and logistic.',
        hint="The paper has a forest; pooling keeps the weights of the bases near equal.",
    )
