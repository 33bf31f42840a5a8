"""What neighbourhoods, blocks and learning give does not depend on the window asked for.

Every result is computed whole, in small tiles, and as a part that begins elsewhere: all must be
the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from scipy import ndimage

from gee.emulator.pixels import Limits, render

SIZE = 60
ROW, COLUMN = 17, 9


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(6)
    smooth = ndimage.gaussian_filter(random.normal(0, 1, (3, SIZE, SIZE)), (0, 2, 2)) * 200
    mask = random.random((SIZE, SIZE)) > 0.05
    # Tiles without a masked pixel go other ways through the code than those with some.
    mask[28:] = True
    with earth(tmp_path_factory.mktemp("tiles")) as found:
        found.put(
            "T/f",
            *(band(n, v.astype(np.float32), mask) for n, v in zip("abc", smooth, strict=True)),
        )
        found.put(
            "T/i",
            *(band(n, (v / 20).astype(np.int16), mask) for n, v in zip("abc", smooth, strict=True)),
        )
        found.put("T/s", band("a", np.roll(smooth[0], (2, -1), (0, 1)).astype(np.float32)))
        found.put("T/r", band("a", smooth[0].astype(np.float32)))
        yield found


def training() -> Any:
    random = np.random.default_rng(1)
    rows = random.normal(0, 60, (60, 3))
    return ee.FeatureCollection(
        [
            ee.Feature(
                ee.Geometry.Point([15 + k * 1e-4, 60.436 - (k % 7) * 5e-4]),
                {"a": float(a), "b": float(b), "c": float(c), "k": int(a > 0) + int(b > c)},
            )
            for k, (a, b, c) in enumerate(rows)
        ]
    )


def classified(classifier: Any, mode: str | None = None) -> Any:
    made = classifier.train(training(), "k", ["a", "b", "c"])
    return ee.Image("T/f").classify(made if mode is None else made.setOutputMode(mode))


def algorithm(name: str, **arguments: Any) -> Any:
    return ee.ApiFunction.call_(name, **arguments)


CASES: dict[str, Callable[[], Any]] = {
    "forest": lambda: classified(ee.Classifier.smileRandomForest(5), "PROBABILITY"),
    "boost": lambda: classified(
        ee.Classifier.smileGradientTreeBoost(5, 0.1, maxNodes=4), "REGRESSION"
    ),
    "distance": lambda: classified(ee.Classifier.minimumDistance("mahalanobis"), "REGRESSION"),
    "cosine": lambda: classified(ee.Classifier.minimumDistance("cosine"), "REGRESSION"),
    "bayes": lambda: classified(ee.Classifier.smileNaiveBayes(0.1), "PROBABILITY"),
    "neighbours": lambda: classified(ee.Classifier.smileKNN(4, "LINEAR_SEARCH", "BRAYCURTIS")),
    "machine": lambda: classified(
        ee.Classifier.libsvm(kernelType="RBF", gamma=0.001), "PROBABILITY"
    ),
    "margins": lambda: classified(ee.Classifier.libsvm("Margin", kernelType="POLY", cost=1e-6)),
    "maxent": lambda: ee.Image("T/f").classify(
        ee.Classifier.amnhMaxent().train(
            training().map(lambda f: f.set("p", ee.Number(f.get("k")).gt(0))), "p", ["a", "b", "c"]
        )
    ),
    "clusters": lambda: ee.Image("T/f").cluster(
        ee.Clusterer.wekaKMeans(5).train(training(), ["a", "b", "c"])
    ),
    "cobweb": lambda: ee.Image("T/f").cluster(
        ee.Clusterer.wekaCobweb(40).train(training(), ["a", "b", "c"])
    ),
    "texture": lambda: ee.Image("T/i").select("a").glcmTexture(2),
    "dilation": lambda: ee.Image("T/f").spectralDilation("sed", ee.Kernel.circle(2), True),
    "gradient": lambda: ee.Image("T/f").abs().spectralGradient("emd"),
    "canny": lambda: ee.Algorithms.CannyEdgeDetector(ee.Image("T/f"), 2, 1.5),
    "hough": lambda: ee.Algorithms.HoughTransform(ee.Image("T/f"), 16, 50, 9),
    "parabolas": lambda: ee.Image("T/i").select("a").multiply(9).rsedTransform(20),
    "medial": lambda: ee.Image("T/i").select("a").gt(2).medialAxis(9),
    "minima": lambda: ee.Terrain.fillMinima(ee.Image("T/i"), None, 7),
    "snic": lambda: algorithm("Image.Segmentation.SNIC", image=ee.Image("T/f"), size=6),
    "kmeans": lambda: algorithm("Image.Segmentation.KMeans", image=ee.Image("T/f"), gridSize=20),
    "gmeans": lambda: algorithm(
        "Image.Segmentation.GMeans", image=ee.Image("T/f"), numIterations=2
    ),
    "seeds": lambda: algorithm("Image.Segmentation.seedGrid", size=7, gridType="hex"),
    "displace": lambda: ee.Image("T/f").displace(ee.Image("T/f").divide(9), "bicubic"),
    "displacement": lambda: ee.Image("T/s").displacement(ee.Image("T/r"), 30, None, 110),
    "correlation": lambda: ee.Algorithms.CrossCorrelation(ee.Image("T/r"), ee.Image("T/s"), 2, 5),
    "inverse": lambda: training().inverseDistance(150, "a", 0, 60),
    "kriging": lambda: training().kriging("a", "exponential", 120, 9, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_windows_and_tiles_leave_no_trace(world: Earth, case: str) -> None:
    image = world.value(CASES[case]())

    whole = render(image, native(SIZE, SIZE), None, Limits(tile=512))
    tiled = render(image, native(SIZE, SIZE), None, Limits(tile=23, threads=2))
    part = render(image, native(30, 40, ROW, COLUMN), None, Limits(tile=512))
    here = np.s_[ROW : ROW + 30, COLUMN : COLUMN + 40]
    assert any((m > 0).any() for _, m in whole.values())
    for name, (data, mask) in whole.items():
        for got, cut in ((tiled[name], np.s_[:, :]), (part[name], here)):
            seen = np.asarray(mask > 0)[cut]
            np.testing.assert_array_equal(np.asarray(got[1] > 0), seen, err_msg=name)
            np.testing.assert_array_equal(got[0][seen], data[cut][seen], err_msg=name)
