"""Classifiers: what they learn, what they answer in every mode, masks, names and refusals.

Held against numpy, scipy, shapely and scikit-learn used in another way, and against the
conditions that define the solution (margins, moments). [A] is the list of the installed client.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import shapely
from emulator_engine_world import Earth, band, earth, native
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.pixels import Limits

load_all()

from gee.emulator.functions import maxent as maxent_module  # noqa: E402
from gee.emulator.functions.trees import (  # noqa: E402
    classifier_from_json,
    classifier_to_json,
)
from gee.emulator.functions.treetext import parse_trees  # noqa: E402

SIZE = 48
NAMES = ["x", "y", "z"]


class World:
    def __init__(self, found: Earth, pixels: np.ndarray, mask: np.ndarray) -> None:
        self.earth, self.pixels, self.mask = found, pixels, mask
        random = np.random.default_rng(1)
        self.table = random.normal(0, 1, (90, 3)) + np.repeat(np.arange(3), 30)[:, None]
        self.labels = np.repeat(np.arange(3), 30)
        self.training = features(self.table, self.labels)

    def info(self, value: Any) -> Any:
        return self.earth.info(value)

    def classified(self, classifier: Any, **more: Any) -> np.ndarray:
        return self.earth.data(ee.Image("T/a").classify(classifier, **more), native(SIZE, SIZE))

    def answers(self, classifier: Any, table: np.ndarray) -> np.ndarray:
        "Answers for rows whose columns are x, y, z where the classifier's inputs are."
        made = self.earth.value(classifier)
        if set(made.bands) <= set(NAMES):
            table = table[:, [NAMES.index(n) for n in made.bands]]
        return np.asarray(made.predict(table))


def features(table: np.ndarray, labels: np.ndarray) -> Any:
    return ee.FeatureCollection(
        [
            ee.Feature(None, {**dict(zip(NAMES, map(float, row), strict=False)), "c": float(c)})
            for row, c in zip(table, labels, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(0)
    pixels = random.normal(1, 1.5, (3, SIZE, SIZE))
    mask = random.random((3, SIZE, SIZE)) > 0.1
    with earth(tmp_path_factory.mktemp("classifiers")) as found:
        found.put("T/a", *(band(n, p, m) for n, p, m in zip(NAMES, pixels, mask, strict=True)))
        yield World(found, pixels, mask)


def trained(world: World, classifier: Any, inputs: list[str] | None = None) -> Any:
    return classifier.train(world.training, "c", inputs or NAMES)


# ------------------------------------------------------------------ image.classify


@pytest.mark.parametrize("name", ["cart", "forest", "distance", "knn", "svm"])
def test_pixels_are_classified_as_rows(world: World, name: str) -> None:
    "Image.classify [A]: bands by name; masked where an input is; no trace of tiles."
    made = {
        "cart": ee.Classifier.smileCart(),
        "forest": ee.Classifier.smileRandomForest(5),
        "distance": ee.Classifier.minimumDistance("mahalanobis"),
        "knn": ee.Classifier.smileKNN(3),
        "svm": ee.Classifier.libsvm(kernelType="RBF"),
    }[name]
    classifier = trained(world, made)
    found = world.classified(classifier)
    valid = world.mask.all(axis=0)
    np.testing.assert_array_equal(np.isfinite(found), valid)
    rows = world.pixels[:, valid].T
    np.testing.assert_array_equal(found[valid], world.answers(classifier, rows))
    image = ee.Image("T/a").select(["z", "x", "y"]).classify(classifier, "kind")
    small = world.earth.pixels(image, native(SIZE, SIZE), Limits(tile=13, threads=1))
    assert list(small) == ["kind"]
    data, mask = small["kind"]
    np.testing.assert_array_equal(np.where(mask > 0, data, np.nan), found)
    shown = world.info(image)["bands"][0]["data_type"]
    assert shown == {"type": "PixelType", "precision": "int", "min": 0, "max": 2}


def test_values_that_are_no_numbers_are_masked(world: World) -> None:
    values = np.array([[0.0, np.nan], [np.inf, 2.0]])
    world.earth.put("T/nan", band("x", values), band("y", values), band("z", values))
    found = world.earth.data(
        ee.Image("T/nan").classify(trained(world, ee.Classifier.smileCart())), native(2, 2)
    )
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(values))


@pytest.mark.parametrize("mode", ["MULTIPROBABILITY", "RAW"])
def test_arrays_of_pixels(world: World, mode: str) -> None:
    "[A] setOutputMode: an array per pixel, as a band like any other."
    forest = trained(world, ee.Classifier.smileRandomForest(4)).setOutputMode(mode)
    image = ee.Image("T/a").classify(forest, "p")
    shown = world.info(image)["bands"][0]["data_type"]
    assert shown == {"type": "PixelType", "precision": "double", "dimensions": 1}
    valid = world.mask.all(axis=0)
    rows = world.answers(forest, world.pixels[:, valid].T)
    for k in (0, rows.shape[1] - 1):
        one = image.arrayGet([k])
        for limits in (None, Limits(tile=13, threads=1)):
            data, mask = world.earth.pixels(one, native(SIZE, SIZE), limits)["p"]
            np.testing.assert_array_equal(mask > 0, valid)
            np.testing.assert_allclose(data[valid], rows[:, k])


def test_a_missing_band_is_named(world: World) -> None:
    image = ee.Image("T/a").select(["x", "y"])
    with pytest.raises(EngineError, match=r"Image.classify: .*'z'.*Available bands: \[x, y\]"):
        world.info(image.classify(trained(world, ee.Classifier.smileCart())))


@pytest.mark.parametrize("use", ["classify", "features", "explain", "matrix"])
def test_untrained_classifiers_refuse(world: World, use: str) -> None:
    tree = ee.Classifier.smileCart()
    asked = {
        "classify": ee.Image("T/a").classify(tree),
        "features": world.training.classify(tree),
        "explain": tree.explain(),
        "matrix": tree.confusionMatrix(),
    }[use]
    with pytest.raises(EngineError, match="has not been trained"):
        world.info(asked)
    assert world.info(tree.schema()) is None  # [A] Classifier.schema: null


# ------------------------------------------------------------------ training


def test_rows_with_nulls_are_left_out(world: World) -> None:
    rows = [ee.Feature(None, {"x": v, "c": int(v > 2)}) for v in range(6)]
    gaps = [ee.Feature(None, {"x": None, "c": 9}), ee.Feature(None, {"c": 8})]
    tree = ee.Classifier.smileCart().train(ee.FeatureCollection(rows + gaps), "c", ["x"])
    assert world.info(tree.explain())["classes"] == [0, 1]
    assert world.info(tree.schema()) == ["x"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"x": 1, "c": 0}, {"x": 2}], r"Property 'c' of feature '1' is missing"),
        ([{"x": "grass", "c": 0}], r"Property 'x' of feature '0' must be a number, not 'grass'"),
        ([{"x": 1, "c": "grass"}], r"Property 'c' of feature '0' must be a number"),
        ([{"x": None, "c": 1}], "No valid training data were found"),
        ([{"x": 1, "c": 0.5}], "integers of at least 0; found 0.5"),
        ([{"x": 1, "c": -1}], "integers of at least 0; found -1"),
    ],
)
def test_training_refuses_in_words(world: World, rows: list[dict[str, Any]], words: str) -> None:
    table = ee.FeatureCollection([ee.Feature(None, r) for r in rows])
    with pytest.raises(EngineError, match=words):
        world.info(ee.Classifier.smileCart().train(table, "c", ["x"]).explain())


def test_band_order_names_the_inputs(world: World) -> None:
    "[A] Classifier.train: inputProperties is optional with a band_order property."
    ordered = world.training.set("band_order", ["y", "x", "c"])
    assert world.info(ee.Classifier.smileCart().train(ordered, "c").schema()) == ["y", "x"]
    image = ee.Image("T/a").select(["z", "x"]).addBands(ee.Image(3).toByte().rename("c"))
    for drawn in (image.sample(numPixels=9), image.stratifiedSample(9, "c", scale=10)):
        assert world.info(ee.Classifier.smileCart().train(drawn, "c").schema()) == ["z", "x"]


def test_subsampling_takes_a_share_that_the_seed_repeats(world: World) -> None:
    def size(seed: int, part: float = 0.5) -> int:
        tree = ee.Classifier.smileCart().train(world.training, "c", NAMES, part, seed)
        return int(np.sum(world.info(tree.confusionMatrix())))

    assert size(3) == size(3)
    assert size(1, 1.0) == 90
    assert 25 < size(3) < 65
    assert len({size(s) for s in range(6)}) > 1
    with pytest.raises(EngineError, match=r"within \(0, 1\]"):
        size(1, 0)


def test_the_mode_decides_what_is_fitted(world: World) -> None:
    "setOutputMode after train fits a regression then; class values may be any numbers."
    values = world.table[:, 0] * 2.5
    table = features(world.table, values)
    tree = ee.Classifier.smileCart().train(table, "c", NAMES).setOutputMode("REGRESSION")
    np.testing.assert_allclose(world.answers(tree, world.table), values, rtol=1e-6)
    assert world.info(tree.mode()) == "REGRESSION"
    with pytest.raises(EngineError, match="Unknown output mode 'NONE': CLASSIFICATION"):
        world.info(ee.Classifier.smileCart().setOutputMode("NONE"))
    with pytest.raises(EngineError, match=r"'PROBABILITY' is not supported by.*'minimumDistance'"):
        world.info(ee.Classifier.minimumDistance().setOutputMode("PROBABILITY"))


# ------------------------------------------------------------------ trees


def gini(labels: np.ndarray) -> float:
    return float(1 - ((np.bincount(labels) / len(labels)) ** 2).sum())


def test_cart_takes_the_best_gini_split(world: World) -> None:
    "Breiman's rule, searched through all splits; importance is the decrease at the split."
    x, labels = world.table[:, :2], world.labels
    best = max(
        (
            gini(labels) - left.mean() * gini(labels[left]) - (~left).mean() * gini(labels[~left]),
            k,
            at,
        )
        for k in range(2)
        for at in np.sort(x[:, k])[:-1]
        for left in [x[:, k] <= at]
    )
    tree = trained(world, ee.Classifier.smileCart(2), ["x", "y"])
    explained = world.info(tree.explain())
    name = NAMES[best[1]]
    assert explained["importance"][name] == pytest.approx(best[0])
    assert sum(explained["importance"].values()) == pytest.approx(best[0])
    assert explained["numberOfNodes"] == 3
    written = parse_trees(explained["tree"])[0]
    assert written.nodes[2].name == name
    above = np.sort(x[:, best[1]])[np.searchsorted(np.sort(x[:, best[1]]), best[2]) + 1]
    assert written.nodes[2].at[0] == pytest.approx((best[2] + above) / 2, rel=1e-6)


def test_an_enormous_bound_on_leaves_is_none(world: World) -> None:
    "scikit-learn would make room for all of them."
    bounded = trained(world, ee.Classifier.smileCart(2**31 - 1))
    free = trained(world, ee.Classifier.smileCart())
    rows = np.random.default_rng(3).normal(1, 1.5, (200, 3))
    np.testing.assert_array_equal(world.answers(bounded, rows), world.answers(free, rows))
    boost = ee.Classifier.smileGradientTreeBoost(2, maxNodes=2**31 - 1)
    assert len(world.answers(trained(world, boost), rows)) == 200


def test_leaves_hold_at_least_so_many(world: World) -> None:
    tree = trained(world, ee.Classifier.smileCart(None, 11))
    written = parse_trees(world.info(tree.explain())["tree"])[0]
    leaves, counts = np.unique(written.leaf_of(world.table, NAMES), return_counts=True)
    assert counts.min() >= 11
    assert len(leaves) == len(written.leaves)


def test_explained_trees_answer_as_their_forest(world: World) -> None:
    "The trees of explain() make the same classifier by decisionTreeEnsemble."
    forest = trained(world, ee.Classifier.smileRandomForest(7, None, 2, 0.6, None, 4))
    explained = world.info(forest.explain())
    assert explained["numberOfTrees"] == len(explained["trees"]) == 7
    assert 0 < explained["outOfBagErrorEstimate"] < 0.5
    again = ee.Classifier.decisionTreeEnsemble(explained["trees"])
    np.testing.assert_array_equal(world.classified(forest), world.classified(again))
    assert world.info(again.schema()) and set(world.info(again.schema())) == set(NAMES)


def test_deep_trees_are_written_and_read(world: World) -> None:
    "Gaps that halve from one class to the next make a chain: a level for every row."
    x = 1 - 0.5 ** np.arange(20)
    rows = np.concatenate([k + x for k in range(5)])[:, None]
    table = features(rows, np.arange(100) % 2)
    tree = ee.Classifier.smileCart().train(table, "c", ["x"])
    again = ee.Classifier.decisionTree(world.info(tree.explain())["tree"])
    written = parse_trees(world.info(tree.explain())["tree"])[0]
    assert max(written.nodes) > 2**8
    np.testing.assert_array_equal(world.answers(again, rows), world.answers(tree, rows))
    long = ["1) root 1 0 0"]
    for level in range(1, 200):
        long.append(f"{2**level}) v<={-level} 1 0 {level}")
        long.append(f"{2**level + 1}) v>{-level} 1 0 {level} *")
    deep = ee.Classifier.decisionTree("\n".join(long))
    assert world.answers(deep, np.array([[-100.5], [-1000.0]])).tolist() == [101, 199]


def test_forests_repeat_by_seed_and_vote(world: World) -> None:
    def forest(seed: int, mode: str = "RAW") -> Any:
        made = ee.Classifier.smileRandomForest(9, None, 1, 0.5, None, seed)
        return world.answers(trained(world, made).setOutputMode(mode), world.table)

    votes = forest(1)
    np.testing.assert_array_equal(votes, forest(1))
    assert (votes != forest(2)).any()
    assert votes.shape == (90, 9)
    counts = np.stack([(votes == c).sum(axis=1) for c in range(3)], axis=1)
    np.testing.assert_array_equal(forest(1, "CLASSIFICATION"), counts.argmax(axis=1))
    chances = forest(1, "MULTIPROBABILITY")
    # Leaves of one row are pure: the mean chance is the share of votes.
    np.testing.assert_allclose(chances, counts / 9, atol=1e-12)
    np.testing.assert_allclose(forest(1, "PROBABILITY"), chances.max(axis=1))


def test_the_out_of_bag_error_of_noise_is_that_of_guessing(world: World) -> None:
    random = np.random.default_rng(5)
    noise = features(random.random((300, 2)), random.integers(0, 2, 300))
    forest = ee.Classifier.smileRandomForest(30).train(noise, "c", ["x", "y"])
    assert 0.38 < world.info(forest.explain())["outOfBagErrorEstimate"] < 0.62
    assert world.info(forest.confusionMatrix().accuracy()) > 0.9


def test_the_second_of_two_classes_is_what_a_probability_is_of(world: World) -> None:
    two = features(world.table, (world.labels > 0).astype(int))
    forest = ee.Classifier.smileRandomForest(9).train(two, "c", NAMES)
    many = world.answers(forest.setOutputMode("MULTIPROBABILITY"), world.table)
    one = world.answers(forest.setOutputMode("PROBABILITY"), world.table)
    np.testing.assert_array_equal(one, many[:, 1])


def test_boosting_adds_shrunken_stumps(world: World) -> None:
    "Friedman's algorithm for least squares, by hand: each stump fits what is left."
    x = world.table[:, :1]
    y = x[:, 0] ** 2
    found = np.full(len(y), y.mean())
    order = np.sort(x[:, 0])
    for _ in range(6):
        left_over = y - found
        cuts = []
        for at in order[:-1]:
            low = x[:, 0] <= at
            parts = left_over[low], left_over[~low]
            cuts.append((sum(((p - p.mean()) ** 2).sum() for p in parts), at))
        left = x[:, 0] <= min(cuts)[1]
        found += 0.3 * np.where(left, left_over[left].mean(), left_over[~left].mean())
    boost = ee.Classifier.smileGradientTreeBoost(6, 0.3, 1.0, 2, "LeastSquares")
    made = boost.setOutputMode("REGRESSION").train(features(x, y), "c", ["x"])
    np.testing.assert_allclose(world.answers(made, x), found, rtol=1e-5)
    explained = world.info(made.explain())
    assert explained["numberOfTrees"] == 6
    total = sum(t.predict(x, ["x"]) for t in map(lambda s: parse_trees(s)[0], explained["trees"]))
    np.testing.assert_allclose(y.mean() + 0.3 * total, found, rtol=1e-5)


def test_boosting_repeats_by_seed(world: World) -> None:
    def raw(seed: int) -> Any:
        boost = ee.Classifier.smileGradientTreeBoost(5, 0.1, 0.5, 4, "Huber", seed)
        return world.answers(trained(world, boost).setOutputMode("RAW"), world.table)

    np.testing.assert_array_equal(raw(1), raw(1))
    assert (raw(1) != raw(2)).any()
    with pytest.raises(EngineError, match="Unknown loss 'Hinge'"):
        world.info(ee.Classifier.smileGradientTreeBoost(5, loss="Hinge"))


def geemap_ml() -> Any:
    "geemap's module of trees alone: the package imports a whole notebook."
    package = importlib.util.find_spec("geemap")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "ml.py"
    spec = importlib.util.spec_from_file_location("geemap_ml", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_trees_of_scikit_learn_written_by_geemap(world: World) -> None:
    "An unmodified client's text of a tree answers as the tree that it was written from."
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    ml = geemap_ml()

    rows = np.random.default_rng(8).normal(1, 1.5, (500, 3))
    whole = DecisionTreeClassifier(max_depth=4, random_state=0).fit(world.table, world.labels)
    text = ml.tree_to_string(whole, NAMES, labels=[0, 1, 2])
    found = world.answers(ee.Classifier.decisionTree(text), rows)
    np.testing.assert_array_equal(found, whole.predict(rows))
    values = world.table.sum(axis=1)
    smooth = DecisionTreeRegressor(max_depth=3, random_state=0).fit(world.table, values)
    text = ml.tree_to_string(smooth, NAMES)
    tree = ee.Classifier.decisionTreeEnsemble([text, text]).setOutputMode("REGRESSION")
    np.testing.assert_allclose(world.answers(tree, rows), smooth.predict(rows), atol=1e-6)


R_TREE = """n= 20

node), split, n, loss, yval, (yprob)
      * denotes terminal node

1) root 20 10 1 (0.5 0.5)
  2) B4< 30.5 10 2 1 (0.8 0.2)
    4) B5>=3 6 0 1 (1 0) *
    5) B5< 3 4 2 7 (0.5 0.5) *
  3) B4>=30.5 10 2 2 (0.2 0.8) *
"""


def test_trees_in_the_text_of_r(world: World) -> None:
    "print.rpart: the children of node k are 2k and 2k + 1, '<' and '>=' at the splits."
    tree = ee.Classifier.decisionTree(R_TREE)
    assert world.info(tree.schema()) == ["B4", "B5"]
    rows = np.array([[30.4, 3.0], [30.4, 2.9], [30.5, 0.0]])
    assert world.answers(tree, rows).tolist() == [1, 7, 2]
    assert world.info(tree.explain())["classes"] == [1, 2, 7]
    table = ee.FeatureCollection([ee.Feature(None, {"B4": 10, "B5": 1}), ee.Feature(None, {})])
    found = world.info(table.classify(tree, "kind").aggregate_array("kind"))
    assert found == [7]


TREES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-50, 50).map(float),
    lambda inner: st.tuples(
        st.sampled_from("xyz"), st.sampled_from(["<=", "<", ">", ">="]),
        st.floats(-2, 2, width=16), inner, inner,
    ),
    max_leaves=12,
)  # fmt: skip
OPPOSITE = {"<=": ">", ">": "<=", "<": ">=", ">=": "<"}


def written(node: Any, number: int = 1, split: str = "root") -> list[str]:
    if isinstance(node, float):
        return [f"{number}) {split} 5 1.5 {node} *"]
    name, sign, at, left, right = node
    return [
        f"{number}) {split} 9 2.5 0",
        *written(left, 2 * number, f"{name} {sign} {at}"),
        *written(right, 2 * number + 1, f"{name}{OPPOSITE[sign]}{at}"),
    ]


def walked(node: Any, row: dict[str, float]) -> float:
    "Branch by branch, as one reads a tree."
    while not isinstance(node, float):
        name, sign, at, left, right = node
        value = row[name]
        taken = {"<=": value <= at, "<": value < at, ">": value > at, ">=": value >= at}[sign]
        node = left if taken else right
    return float(node)


@given(node=TREES, seed=st.integers(0, 99))
def test_any_tree_is_read_as_it_is_walked(node: Any, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(-4, 5, (40, 3)) / 2
    tree = parse_trees("\n".join(written(node)))[0]
    expected = [walked(node, dict(zip("xyz", row, strict=True))) for row in rows.tolist()]
    np.testing.assert_array_equal(tree.predict(rows, list("xyz")), expected)


def test_an_ensemble_votes_and_its_least_class_wins_ties(world: World) -> None:
    trees = [f"1) root 2 0 0\n2) v<={k} 1 0 {k} *\n3) v>{k} 1 0 9 *" for k in (1, 2, 3, 4)]
    rows = np.array([[0.0], [2.5], [3.5], [5.0]])
    votes = np.where(rows <= [1, 2, 3, 4], [1, 2, 3, 4], 9)
    ensemble = ee.Classifier.decisionTreeEnsemble(trees)
    expected = [min(set(v), key=lambda c: (-list(v).count(c), c)) for v in votes.tolist()]
    assert world.answers(ensemble, rows).tolist() == expected
    raw = world.answers(ensemble.setOutputMode("RAW"), rows)
    np.testing.assert_array_equal(raw, votes)
    joined = ee.Classifier.decisionTreeEnsemble(["\n".join(trees)])
    np.testing.assert_array_equal(world.answers(joined.setOutputMode("RAW"), rows), votes)
    mean = world.answers(ensemble.setOutputMode("REGRESSION"), rows)
    np.testing.assert_allclose(mean, votes.mean(axis=1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line begins with '1\\) root'"),
        ("2) v<=3 1 0 5 *", "must begin with its root"),
        ("1) root 2 0 0\n5) v<=3 1 0 5 *", "Node 5 of the decision tree has no parent 2"),
        ("1) root 2 0 0\n2) v~3 1 0 5 *", "Cannot read the decision tree's node '2\\) v~3"),
        ("1) root 2 0 0\n2) v<=b 1 0 5 *", "Cannot read"),
        ("1) root 2 0 0\n2) v<=3 1 0 tree *", "Cannot read"),
        ("1) root", "has no value"),
    ],
)
def test_trees_that_cannot_be_read(world: World, text: str, words: str) -> None:
    with pytest.raises(EngineError, match=f"Classifier.decisionTree: .*{words}"):
        world.info(ee.Classifier.decisionTree(text))


@pytest.mark.parametrize("kind", ["cart", "forest", "text", "ensemble"])
@pytest.mark.parametrize("mode", ["CLASSIFICATION", "REGRESSION", "MULTIPROBABILITY"])
def test_stored_classifiers_answer_as_before(world: World, kind: str, mode: str) -> None:
    "Export.classifier.toAsset: these four kinds; the text is JSON, nothing in it runs."
    made = {
        "cart": lambda: trained(world, ee.Classifier.smileCart(6)),
        "forest": lambda: trained(world, ee.Classifier.smileRandomForest(4, seed=3)),
        "text": lambda: ee.Classifier.decisionTree(R_TREE),
        "ensemble": lambda: ee.Classifier.decisionTreeEnsemble([R_TREE, R_TREE]),
    }[kind]()
    before = world.earth.value(made.setOutputMode(mode))
    text = classifier_to_json(before)
    after = classifier_from_json(text)
    rows = np.random.default_rng(2).normal(1, 20, (200, len(before.bands)))
    np.testing.assert_allclose(after.predict(rows), before.predict(rows), rtol=1e-9)
    assert (after.mode, after.bands, after.name) == (mode, before.bands, before.name)
    assert classifier_to_json(after) == text or kind in ("cart", "forest")


def test_other_things_are_not_stored_or_loaded(world: World) -> None:
    with pytest.raises(EngineError, match="'smileKNN' cannot be exported: only smileCart"):
        classifier_to_json(world.earth.value(trained(world, ee.Classifier.smileKNN())))
    for text in ("", "[]", "{}", '{"format": "thawslump-classifier", "version": 1}'):
        with pytest.raises(EngineError, match="holds no classifier"):
            classifier_from_json(text)
    with pytest.raises(EngineError, match="Classifier asset 'projects/p/assets/c' not found"):
        world.info(ee.Classifier.load("projects/p/assets/c").mode())


# ------------------------------------------------------------------ distances


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "mahalanobis"])
def test_minimum_distances(world: World, metric: str) -> None:
    "[A] minimumDistance, against scipy: class, distance to the nearest, to all, k nearest."
    groups = [world.table[world.labels == c] for c in range(3)]
    rows = np.random.default_rng(3).normal(1, 2, (50, 3))
    columns = []
    for group in groups:
        mean = group.mean(axis=0, keepdims=True)
        if metric == "mahalanobis":
            inverse = np.linalg.inv(np.cov(group, rowvar=False))
            columns.append(cdist(rows, mean, "mahalanobis", VI=inverse))
        elif metric == "cosine":
            columns.append(np.arccos(1 - cdist(rows, mean, "cosine")))
        else:
            columns.append(cdist(rows, mean, {"manhattan": "cityblock"}.get(metric, metric)))
    far = np.hstack(columns)
    made = trained(world, ee.Classifier.minimumDistance(metric))
    np.testing.assert_array_equal(world.answers(made, rows), far.argmin(axis=1))
    for mode, expected in (("REGRESSION", far.min(axis=1)), ("RAW", far)):
        np.testing.assert_allclose(world.answers(made.setOutputMode(mode), rows), expected)
    two = trained(world, ee.Classifier.minimumDistance(metric, 2))
    np.testing.assert_array_equal(world.answers(two, rows), far.argsort(axis=1)[:, :2])
    matrices = world.info([two.confusionMatrix(), made.confusionMatrix()])
    assert matrices[0] == matrices[1]
    all_ = trained(world, ee.Classifier.minimumDistance(metric, 9)).setOutputMode("REGRESSION")
    np.testing.assert_allclose(world.answers(all_, rows), np.sort(far, axis=1))


@pytest.mark.parametrize("metric", ["EUCLIDEAN", "MANHATTAN", "BRAYCURTIS", "MAHALANOBIS"])
@pytest.mark.parametrize("search", ["AUTO", "LINEAR_SEARCH", "KD_TREE", "COVER_TREE"])
def test_neighbours(world: World, metric: str, search: str) -> None:
    "[A] smileKNN: KD_TREE, and AUTO below 10 inputs, do not use the metric."
    rows = np.random.default_rng(3).normal(1, 2, (40, 3))
    used = metric if search in ("LINEAR_SEARCH", "COVER_TREE") else "EUCLIDEAN"
    name = {"MANHATTAN": "cityblock"}.get(used, used.lower())
    more = {"VI": np.linalg.inv(np.cov(world.table, rowvar=False))} if used == "MAHALANOBIS" else {}
    near = cdist(rows, world.table, name, **more).argsort(axis=1)[:, :5]
    votes = world.labels[near]
    counts = np.stack([(votes == c).sum(axis=1) for c in range(3)], axis=1)
    made = trained(world, ee.Classifier.smileKNN(5, search, metric))
    np.testing.assert_array_equal(world.answers(made, rows), counts.argmax(axis=1))
    np.testing.assert_array_equal(world.answers(made.setOutputMode("RAW"), rows), votes)
    mean = world.answers(made.setOutputMode("REGRESSION"), rows)
    np.testing.assert_allclose(mean, votes.mean(axis=1))


def test_naive_bayes_of_counts(world: World) -> None:
    "The multinomial model with additive smoothing, as scikit-learn has it; negatives are none."
    from sklearn.naive_bayes import MultinomialNB

    random = np.random.default_rng(6)
    counts = random.poisson(np.array([[8, 2, 1], [2, 8, 1], [1, 2, 8]])[world.labels])
    reference = MultinomialNB(alpha=0.5, force_alpha=True).fit(counts, world.labels)
    made = ee.Classifier.smileNaiveBayes(0.5).train(features(counts, world.labels), "c", NAMES)
    rows = random.poisson(4, (60, 3)).astype(float)
    np.testing.assert_array_equal(world.answers(made, rows), reference.predict(rows))
    chances = world.answers(made.setOutputMode("MULTIPROBABILITY"), rows)
    np.testing.assert_allclose(chances, reference.predict_proba(rows), atol=1e-9)
    signed = np.where(random.random(rows.shape) < 0.3, -rows, rows)
    np.testing.assert_array_equal(
        world.answers(made, signed), world.answers(made, np.maximum(signed, 0))
    )


def test_spectral_regions(world: World) -> None:
    "[A] spectralRegion: 1 where an odd number of edges is crossed: a hole is outside."
    outer = [(0, 0), (10, 0), (10, 8), (4, 3), (0, 9)]
    hole = [(1, 1), (3, 1), (2, 2.5)]
    rings = [list(itertools.chain(*outer)), list(itertools.chain(*hole))]
    rows = np.random.default_rng(1).uniform(-1, 11, (600, 2))
    expected = shapely.contains_xy(shapely.Polygon(outer, [hole]), rows[:, 0], rows[:, 1])
    region = ee.Classifier.spectralRegion(rings)
    np.testing.assert_array_equal(world.answers(region, rows), expected)
    assert 100 < expected.sum() < 500
    assert world.info(region.schema()) == ["u", "v"]
    image = ee.Image([2, 5]).rename(["a", "b"])
    found = world.earth.data(
        image.classify(ee.Classifier.spectralRegion(rings, ["a", "b"])), native(2, 2)
    )
    assert (found == 1).all()
    with pytest.raises(EngineError, match="name 2 inputs, not 3"):
        world.info(ee.Classifier.spectralRegion(rings, ["a", "b", "c"]).mode())
    with pytest.raises(EngineError, match="at least 3 pairs of coordinates, not 4 numbers"):
        world.info(ee.Classifier.spectralRegion([[0, 0, 1, 1]]).mode())


# ------------------------------------------------------------------ support vectors


def test_two_points_hold_the_widest_street(world: World) -> None:
    "The border lies half way, and the margin is 1 at the points."
    points = features(np.array([[0.0], [4.0]]), np.array([3, 8]))
    machine = ee.Classifier.libsvm(cost=100).train(points, "c", ["x"])
    rows = np.array([[-1.0], [1.999], [2.001], [9.0]])
    assert world.answers(machine, rows).tolist() == [3, 3, 8, 8]
    raw = world.answers(machine.setOutputMode("RAW"), np.array([[0.0], [2.0], [4.0]]))
    np.testing.assert_allclose(raw[:, 0], [1, 0, -1], atol=1e-6)
    assert world.info(machine.explain())["numberOfSupportVectors"] == 2


@pytest.mark.parametrize("kind", ["C_SVC", "NU_SVC"])
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("procedure", ["Voting", "Margin"])
def test_machines_decide_by_pairs(world: World, kind: str, kernel: str, procedure: str) -> None:
    "One machine for every pair of classes; gamma is one over the number of inputs ([A])."
    from sklearn import svm

    options = {"kernel": kernel.lower(), "gamma": 1 / 3, "coef0": 0.1, "degree": 2, "tol": 1e-6}
    rows = np.random.default_rng(3).normal(1, 1, (80, 3))
    votes, sums = np.zeros((80, 3)), np.zeros((80, 3))
    for i, j in itertools.combinations(range(3), 2):
        keep = np.isin(world.labels, (i, j))
        made = svm.SVC(**options) if kind == "C_SVC" else svm.NuSVC(nu=0.4, **options)
        margin = -made.fit(world.table[keep], world.labels[keep]).decision_function(rows)
        votes[:, i] += margin > 0
        votes[:, j] += margin <= 0
        sums[:, i] += margin
        sums[:, j] -= margin
    more = {"nu": 0.4} if kind == "NU_SVC" else {}
    machine = trained(
        world,
        ee.Classifier.libsvm(
            procedure, kind, kernel, degree=2, coef0=0.1, terminationEpsilon=1e-6, **more
        ),
    )
    expected = (votes if procedure == "Voting" else sums).argmax(axis=1)
    assert (world.answers(machine, rows) == expected).mean() > 0.98


def test_machines_of_regression_and_of_one_class(world: World) -> None:
    x = np.linspace(0, 4, 40)[:, None]
    line = features(x, 3 * x[:, 0] + 1)
    for kind in ("EPSILON_SVR", "NU_SVR"):
        machine = ee.Classifier.libsvm(svmType=kind, cost=100).train(line, "c", ["x"])
        assert world.info(machine.mode()) == "REGRESSION"
        off = world.answers(machine, x) - (3 * x[:, 0] + 1)
        assert np.abs(off).max() < 0.12  # lossEpsilon is 0.1 by default
    labels = (world.labels > 0).astype(int)
    two = features(world.table, labels)
    for inside in (0, 1):
        machine = ee.Classifier.libsvm(
            svmType="ONE_CLASS", kernelType="RBF", nu=0.2, oneClass=inside
        ).train(two, "c", NAMES)
        # nu bounds the share of training rows outside.
        own = world.answers(machine, world.table[labels == inside])
        assert 0.65 < (own == inside).mean() <= 0.95
        assert (world.answers(machine, np.full((3, 3), 99.0)) == 1 - inside).all()


def test_machines_of_two_classes_know_how_sure_they_are(world: World) -> None:
    two = features(world.table, (world.labels > 0).astype(int))
    machine = ee.Classifier.libsvm(kernelType="RBF").train(two, "c", NAMES)
    chance = world.answers(machine.setOutputMode("PROBABILITY"), world.table)
    margin = world.answers(machine.setOutputMode("RAW"), world.table)[:, 0]
    order = np.argsort(margin)
    assert (np.diff(chance[order]) <= 1e-12).all()  # a falling function of the margin
    assert chance[order[0]] > 0.8 > 0.2 > chance[order[-1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"svmType": "C"}, "Unknown svmType 'C': C_SVC, NU_SVC"),
        ({"kernelType": "CUBIC"}, "Unknown kernelType 'CUBIC'"),
        ({"decisionProcedure": "Dice"}, "Unknown decisionProcedure 'Dice': Voting, Margin"),
        ({"gamma": -1.0}, "gamma must be positive"),
        ({"nu": 2.0}, r"nu must be within \(0, 1\]"),
        ({"oneClass": 2}, "oneClass must be 0 or 1"),
    ],
)
def test_machines_refuse_in_words(world: World, options: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        world.info(ee.Classifier.libsvm(**options).mode())


# ------------------------------------------------------------------ maximum entropy


def presences(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    table = random.random((count + 500, 2))
    table[:count] = table[:count] ** 0.4
    return table, (np.arange(len(table)) < count).astype(int)


def test_the_distribution_keeps_the_moments_within_their_bounds() -> None:
    """The optimality conditions of Dudík, Phillips & Schapire (2004).

    The mean of every feature under the fitted distribution lies within beta of the presences'
    mean, and at that bound where the weight is not zero.
    """
    random = np.random.default_rng(2)
    background = random.random((400, 6))
    target = background[:60].mean(axis=0) + random.normal(0, 0.05, 6)
    beta = np.array([0.0, 0.001, 0.01, 0.03, 0.1, 1.0])
    weights = maxent_module.fit_gibbs(background, target, beta)
    odds = np.exp(background @ weights)
    gap = odds @ background / odds.sum() - target
    assert (np.abs(gap) <= beta + 1e-5).all()
    active = np.abs(weights) > 1e-6
    np.testing.assert_allclose(gap[active], -np.sign(weights[active]) * beta[active], atol=1e-5)
    assert not active[5]


@pytest.mark.parametrize("how", ["cloglog", "logistic", "raw", "cumulative"])
def test_maximum_entropy_in_its_formats(world: World, how: str) -> None:
    "Phillips et al. (2017): cloglog = 1 - exp(-e^H raw), logistic = e^H raw / (1 + e^H raw)."
    table, labels = presences()
    data = features(table, labels)

    def suitability(form: str) -> np.ndarray:
        made = ee.Classifier.amnhMaxent(outputFormat=form, writeClampGrid=False)
        return world.answers(made.train(data, "c", ["x", "y"]), table)

    raw, found = suitability("raw"), suitability(how)
    made = ee.Classifier.amnhMaxent(outputFormat=how).train(data, "c", ["x", "y"])
    entropy = world.info(made.explain())["entropy"]
    # All samples differ from the background, so all 560 points make the distribution.
    assert raw.sum() == pytest.approx(1)
    assert entropy == pytest.approx(-(raw * np.log(raw)).sum())
    odds = raw * np.exp(entropy)
    expected = {
        "raw": raw, "logistic": odds / (1 + odds), "cloglog": 1 - np.exp(-odds),
        "cumulative": [100 * raw[raw <= r].sum() for r in raw],
    }[how]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert found[labels == 1].mean() > 1.3 * found[labels == 0].mean()


def test_clamping_beyond_the_training(world: World) -> None:
    "[A] amnhMaxent: 'clamp' is the difference with and without clamping."
    table, labels = presences()
    data = features(table, labels)
    rows = np.array([[0.5, 0.5], [3.0, 0.5], [-2.0, 4.0]])
    inside = np.clip(rows, table.min(axis=0), table.max(axis=0))
    options = {"autoFeature": False, "hinge": False, "product": False}

    def answers(given: np.ndarray, **more: Any) -> np.ndarray:
        made = ee.Classifier.amnhMaxent(**options, **more)
        return world.answers(made.train(data, "c", ["x", "y"]), given)

    found = answers(rows)
    free = answers(rows, doClamp=False, writeClampGrid=False)
    np.testing.assert_allclose(found[:, 0], answers(inside, writeClampGrid=False))
    np.testing.assert_allclose(found[:, 1], np.abs(found[:, 0] - free))
    assert found[0, 1] == 0 < found[1, 1]
    lost = answers(rows, extrapolate=False, writeClampGrid=False)
    np.testing.assert_array_equal(np.isnan(lost), [False, True, True])
    image = ee.Image([0.5, 3.0]).rename(["x", "y"]).classify(
        ee.Classifier.amnhMaxent(**options).train(data, "c", ["x", "y"]), "ignored"
    )  # fmt: skip
    assert world.info(image.bandNames()) == ["probability", "clamp"]


def test_categories_are_learned_one_by_one(world: World) -> None:
    "With no regularisation the suitability of a category is its share of the presences."
    kinds = np.repeat([1, 5, 9], [10, 40, 50])
    seen = np.repeat([1, 5, 9], [30, 60, 10])
    table = np.concatenate([seen, kinds])[:, None].astype(float)
    labels = np.repeat([1, 0], 100)
    made = ee.Classifier.amnhMaxent(
        ["x"], "raw", betaMultiplier=0, writeClampGrid=False, addSamplesToBackground=False
    ).train(features(table, labels), "c", ["x"])
    found = world.answers(made, np.array([[1.0], [5.0], [9.0]]))
    np.testing.assert_allclose(found * [10, 40, 50], [0.3, 0.6, 0.1], atol=1e-4)


# ------------------------------------------------------------------ matrices


def test_error_matrices(world: World) -> None:
    "Against scikit-learn; an order picks classes and their places ([A] errorMatrix)."
    from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

    random = np.random.default_rng(9)
    actual, predicted = random.integers(0, 5, (2, 300))
    pairs = np.column_stack([actual, predicted]).tolist()
    rows = [ee.Feature(None, {"a": a, "p": p}) for a, p in pairs]
    table = ee.FeatureCollection([*rows, ee.Feature(None, {"a": 1})])
    found = table.errorMatrix("a", "p")
    np.testing.assert_array_equal(world.info(found), confusion_matrix(actual, predicted))
    assert world.info(found.kappa()) == pytest.approx(cohen_kappa_score(actual, predicted))
    np.testing.assert_allclose(
        np.ravel(world.info(found.fscore())), f1_score(actual, predicted, average=None)
    )
    order = [3, 0, 4]
    picked = table.errorMatrix("a", "p", order)
    np.testing.assert_array_equal(
        world.info(picked), confusion_matrix(actual, predicted, labels=order)
    )
    assert world.info(picked.order()) == order
    assert world.info(table.errorMatrix("a", "p", [7]).accuracy()) == 0


@pytest.mark.parametrize(
    ("a", "words"),
    [(-1, "starting from 0; found -1"), (1e6, "found 1e\\+06"), ("x", "must be a number, not 'x'")],
)
def test_error_matrices_refuse_in_words(world: World, a: Any, words: str) -> None:
    table = ee.FeatureCollection([ee.Feature(None, {"a": a, "p": 1})])
    with pytest.raises(EngineError, match=f"Collection.errorMatrix: .*{words}"):
        world.info(table.errorMatrix("a", "p"))


def test_the_training_matrix_spans_all_classes(world: World) -> None:
    "[A] confusionMatrix: rows start at class 0 and rise to the greatest, some are empty."
    rows = features(np.array([[0.0], [1.0], [9.0]]), np.array([1, 1, 3]))
    tree = ee.Classifier.smileCart().train(rows, "c", ["x"])
    expected = np.zeros((4, 4), int)
    expected[1, 1], expected[3, 3] = 2, 1
    assert world.info(tree.confusionMatrix()) == expected.tolist()


def test_features_without_an_input_have_no_class(world: World) -> None:
    tree = trained(world, ee.Classifier.smileCart())
    rows = [ee.Feature(None, {"x": 0, "y": 0, "z": 0}), ee.Feature(None, {"x": 0, "z": 1})]
    found = world.info(ee.FeatureCollection(rows).classify(tree, "kind"))["features"]
    assert "kind" in found[0]["properties"]
    assert "kind" not in found[1]["properties"]
    many = ee.FeatureCollection(rows).classify(tree.setOutputMode("MULTIPROBABILITY"), "p")
    assert sum(world.info(many.first().get("p"))) == 1
