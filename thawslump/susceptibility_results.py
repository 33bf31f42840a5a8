"""What susceptibility.json says, for people: whatever of it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thawslump.readings import Score, finite, read_score

__all__ = [
    "KINDS",
    "SCORES",
    "Kind",
    "Susceptibility",
    "dropped_words",
    "factor_words",
    "model_words",
    "models",
    "outside",
    "rates",
    "worth",
]

SCORES = {
    "accuracy": "accuracy",
    "g_mean": "G-mean",
    "specificity": "specificity",
    "recall": "recall",
    "precision": "precision",
    "heidke": "Heidke",
    "matthews": "Matthews",
    "kappa": "kappa",
}
"""The eight scores of He et al. (2024) beside the AUC, in their order, as the files name them."""

KINDS = {
    "random": "random folds",
    "blocked": "blocks of ground",
    "buffered": "blocks, with a buffer around",
    "regions": "whole regions",
    "nearest": "as far off as the ground to map",
}
"""Kinds of folds."""

_MODELS = {
    "logistic": "logistic regression",
    "forest": "random forest",
    "forest_small": "random forest, small",
    "boosting": "gradient boosting",
    "svr": "SVR",
    "svc": "SVC",
    "mlp": "MLP",
    "cnn": "CNN",
    "cnn_small": "CNN, small",
    "patch": "CNN on windows",
    "bagging": "balanced bagging",
    "stacking": "stacking",
    "blending": "blending",
    "spatial_average": "spatial average",
}


@dataclass(frozen=True)
class Kind:
    """Scores of a model over one kind of folds.

    Attributes
    ----------
    name : str
        A key of `KINDS`.
    auc : Score
    gap : Score or None
        AUC over random folds minus that over these; None for the random ones.
    scores : mapping of str to Score
        By the keys of `SCORES`; called at 0.5.
    """

    name: str
    auc: Score
    gap: Score | None
    scores: Mapping[str, Score]

    @property
    def words(self) -> str:
        """The name for people."""
        return KINDS.get(self.name, self.name)


@dataclass(frozen=True)
class Susceptibility:
    """Scores of one susceptibility model.

    Attributes
    ----------
    name : str
    spatial, random, gap : Score
        AUC over spatial and over random folds, and random minus spatial.
    test : Score or None
        AUC on sites from which no model learned.
    without : mapping of str to float
        AUC over spatial folds with each factor left out.
    behind : Score or None
        AUC over spatial folds of the best model minus this one's, paired; None for the best.
    kinds : tuple of Kind
        First those that judge, then the random ones.
    test_scores : mapping of str to Score
        On the sites from which no model learned, by the keys of `SCORES`.
    dropped : mapping of str to int
        Features left out inside folds, and in how many.
    folds_fitted : int
        0 where the file does not say.
    """

    name: str
    spatial: Score
    random: Score
    gap: Score
    test: Score | None = None
    without: Mapping[str, float] = field(default_factory=dict)
    behind: Score | None = None
    kinds: tuple[Kind, ...] = ()
    test_scores: Mapping[str, Score] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    folds_fitted: int = 0


def model_words(name: str) -> str:
    """Return a model's name for people.

    Examples
    --------
    >>> model_words("cnn"), model_words("my_own")
    ('CNN', 'my_own')
    """
    return _MODELS.get(name, name)


def _listed(scores: Any) -> dict[str, Score]:
    """Read scores that are [value, low, high] each."""
    found = {}
    for name in SCORES:
        parts = scores.get(name) if isinstance(scores, Mapping) else None
        if isinstance(parts, list) and len(parts) == 3 and (value := finite(parts[0])) is not None:
            found[name] = Score(value, finite(parts[1]), finite(parts[2]))
    return found


def _kinds(facts: Mapping[str, Any], judge: str) -> Iterator[Kind]:
    by_kind = dict(facts.get("by_kind", {}))
    for name in sorted(by_kind, key=lambda kind: (kind != judge, kind != "random", kind)):
        about = by_kind[name]
        auc = read_score(about, "auc")
        if auc is not None:
            gap = read_score(about, "gap_random_minus_spatial")
            yield Kind(name, auc, gap, _listed(about.get("scores")))


def models(facts: Mapping[str, Any]) -> tuple[Susceptibility, ...]:
    """Return the models of a susceptibility.json, in its order.

    A model without an AUC over random or over spatial folds is left out.
    """
    found = []
    for name, scores in dict(facts.get("models", {})).items():
        spatial, random = read_score(scores, "auc_spatial"), read_score(scores, "auc_random")
        if spatial is None or random is None:
            continue
        without = {
            factor: value
            for factor, held in dict(scores.get("auc_spatial_without", {})).items()
            if (value := finite(held)) is not None
        }
        found.append(
            Susceptibility(
                name,
                spatial,
                random,
                read_score(scores, "gap_random_minus_spatial")
                or Score(random.value - spatial.value),
                read_score(scores, "auc_test"),
                without,
                read_score(scores, "auc_spatial_behind_best"),
                tuple(_kinds(scores, str(facts.get("spatial", "")))),
                _listed(scores.get("scores_test")),
                {str(k): int(v) for k, v in dict(scores.get("dropped_in_folds") or {}).items()},
                int(finite(scores.get("folds_fitted")) or 0),
            )
        )  # fmt: skip
    return tuple(found)


def factor_words(facts: Mapping[str, Any]) -> list[str]:
    """Return the factors for people: columns of classes and of directions together.

    Examples
    --------
    >>> factor_words({"features": ["slope", "aspect_sine", "aspect_cosine", "rock=1", "rock=4"]})
    ['slope', 'aspect', 'rock (2 classes)']
    """
    classes: dict[str, int] = {}
    found: list[str] = []
    for feature in facts.get("features", []):
        name, _, number_of_class = str(feature).partition("=")
        for end in ("_sine", "_cosine"):
            name = name.removesuffix(end)
        if number_of_class:
            classes[name] = classes.get(name, 0) + 1
        if name not in found:
            found.append(name)
    return [f"{name} ({classes[name]} classes)" if name in classes else name for name in found]


def outside(facts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return, by site, the cells unlike anything learned from and all cells of its map.

    Empty where nobody looked.
    """
    valid = dict(facts.get("cells_valid", {}))
    shares = dict(facts.get("classes", {})).get("cells_by_site", {})
    found = {}
    for site, count in dict(facts.get("cells_outside", {})).items():
        cells = valid.get(site) or sum(shares.get(site, []))
        if count is not None and cells:
            found[site] = (int(count), int(cells))
    return found


def dropped_words(model: Susceptibility) -> str:
    """Return which features were left out inside folds; empty where none was.

    Examples
    --------
    >>> one = Score(0.8)
    >>> dropped_words(Susceptibility("forest", one, one, one, dropped={"TRI": 3}, folds_fitted=10))
    'TRI in 3 of 10 folds'
    """
    of = f" of {model.folds_fitted}" if model.folds_fitted else ""
    return ", ".join(f"{name} in {count}{of} folds" for name, count in model.dropped.items())


def worth(facts: Mapping[str, Any], name: str) -> list[tuple[str, Score]]:
    """Return by how much the AUC over spatial folds falls when a factor is shuffled, most first."""
    scores = dict(facts.get("models", {})).get(name, {})
    found = [
        (factor, fall)
        for factor, about in dict(scores.get("importance") or {}).items()
        if (fall := read_score(about, "fall")) is not None
    ]
    return sorted(found, key=lambda pair: -pair[1].value)


def rates(facts: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """Return what is known of deformation points on the map, and a row per class; empty if none."""
    about = facts.get("deformation") or {}
    rows = []
    for row in about.get("classes", []):
        median = finite(row.get("median"))
        low, high = row.get("median_interval") or (None, None)
        rows.append(
            {
                "name": str(row.get("name", "")),
                "points": int(row.get("points", 0)),
                "median": None if median is None else Score(median, finite(low), finite(high)),
                "speed": finite(row.get("median_speed")),
                "moving": finite(row.get("share_moving")),
            }
        )
    return about, rows
