"""Texture, spectral distances, S2 cells and the functions without a family.

[A] is the list of the installed client.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import UTM, Earth, band, earth, native
from scipy import ndimage
from scipy.stats import wasserstein_distance
from skimage.feature import graycomatrix, graycoprops

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.pixels import Limits

load_all()

from gee.emulator.functions.cells import corners  # noqa: E402
from gee.emulator.functions.texture import MEASURES  # noqa: E402

SIZE = 24


class World:
    def __init__(self, found: Earth, grey: np.ndarray, spectra: np.ndarray, mask: np.ndarray):
        self.earth, self.grey, self.spectra, self.mask = found, grey, spectra, mask

    def info(self, value: Any) -> Any:
        return self.earth.info(value)

    def all(self, image: Any, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d.astype(float), np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(0)
    grey = random.integers(3, 9, (SIZE, SIZE)).astype(np.uint8)
    grey[:8, :8] = 5
    spectra = random.random((4, SIZE, SIZE)) + 0.1
    mask = random.random((SIZE, SIZE)) > 0.1
    with earth(tmp_path_factory.mktemp("texture")) as found:
        found.put("T/g", band("g", grey))
        found.put("T/m", band("g", grey, mask))
        found.put("T/s", *(band(n, v) for n, v in zip("abcd", spectra, strict=True)))
        found.put("T/h", *(band(n, v, mask) for n, v in zip("abcd", spectra, strict=True)))
        yield World(found, grey, spectra, mask)


# ------------------------------------------------------------------ co-occurrences

# Offsets (x, y) of [A] as scikit-image's angles, which turn from right to down; symmetric
# matrices know no direction.
ANGLES = {(-1, -1): np.pi / 4, (0, -1): np.pi / 2, (1, -1): 3 * np.pi / 4, (-1, 0): 0.0}


def by_matrix(grey: np.ndarray, row: int, column: int, size: int, angle: float) -> dict[str, float]:
    "Haralick's and Conners's formulas on the matrix that scikit-image makes of the window."
    part = grey[row - size : row + size + 1, column - size : column + size + 1]
    matrix = graycomatrix(part, [1], [angle], 16, symmetric=True, normed=True)
    p = matrix[:, :, 0, 0]
    i, j = np.mgrid[:16, :16]
    mu = (i * p).sum()

    def entropy(q: np.ndarray) -> float:
        q = q[q > 0]
        return float(-(q * np.log(q)).sum())

    sums = np.array([p[i + j == k].sum() for k in range(31)])
    gaps = np.array([p[abs(i - j) == k].sum() for k in range(16)])
    k = np.arange(31)
    px = p.sum(axis=1)
    hx, hxy = entropy(px), entropy(p)
    product = np.outer(px, px)
    hxy1 = -(p[p > 0] * np.log(product[p > 0])).sum()
    hxy2 = entropy(product)
    g = np.arange(16)
    savg = (k * sums).sum()

    def props(name: str) -> float:
        return float(graycoprops(matrix, name)[0, 0])

    return {
        "asm": props("ASM"), "contrast": props("contrast"), "corr": props("correlation"),
        "var": ((i - mu) ** 2 * p).sum(), "idm": props("homogeneity"), "savg": savg,
        "svar": ((k - savg) ** 2 * sums).sum(), "sent": entropy(sums), "ent": hxy,
        "dvar": (g**2 * gaps).sum() - (g * gaps).sum() ** 2, "dent": entropy(gaps),
        "imcorr1": (hxy - hxy1) / hx if hx else 0.0,
        "imcorr2": np.sqrt(max(1 - np.exp(-2 * (hxy2 - hxy)), 0)), "maxcorr": 0.0,
        "diss": props("dissimilarity"), "inertia": props("contrast"),
        "shade": ((i + j - 2 * mu) ** 3 * p).sum(), "prom": ((i + j - 2 * mu) ** 4 * p).sum(),
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 2])
def test_texture_against_scikit_image(world: World, size: int) -> None:
    "[A] glcmTexture: 18 bands a direction with average off, else their mean."
    image = ee.Image("T/g")
    one = world.all(image.glcmTexture(size, None, False), 7)
    mean = world.all(image.glcmTexture(size))
    assert list(mean) == [f"g_{m}" for m in MEASURES]
    assert len(one) == 4 * 18
    for row, column in ((4, 4), (8, 8), (15, 9), (20, 20)):
        found = {
            offset: by_matrix(world.grey, row, column, size, angle)
            for offset, angle in ANGLES.items()
        }
        for m in MEASURES:
            for (x, y), expected in found.items():
                got = one[f"g_{m}_{x}_{y}"][row, column]
                assert got == pytest.approx(expected[m], abs=2e-6), (m, x, y)
            expected_mean = np.mean([e[m] for e in found.values()])
            assert mean[f"g_{m}"][row, column] == pytest.approx(expected_mean, abs=2e-6), m


def test_texture_takes_each_direction_of_a_kernel_once(world: World) -> None:
    "[A] glcmTexture: if either or both of the east and west pixels are set, 1 GLCM."
    image = ee.Image("T/g")
    west_east = image.glcmTexture(1, ee.Kernel.fixed(3, 3, [[0, 0, 0], [1, 1, 1], [0, 0, 0]]))
    default = world.all(image.glcmTexture(1, None, False))
    found = world.all(west_east)
    np.testing.assert_allclose(found["g_contrast"], default["g_contrast_-1_0"])
    assert world.info(image.glcmTexture().bandNames().size()) == 18


def test_masked_pixels_are_in_no_pair(world: World) -> None:
    found = world.all(ee.Image("T/m").glcmTexture(1, None, False), 7)
    np.testing.assert_array_equal(
        np.isfinite(found["g_asm_-1_0"])[2:-2, 2:-2], world.mask[2:-2, 2:-2]
    )
    row, column = next(
        (r, c) for r in range(2, 20) for c in range(2, 20)
        if world.mask[r, c] and not world.mask[r - 1 : r + 2, c - 1 : c + 2].all()
    )  # fmt: skip
    grey, ok = (a[row - 1 : row + 2, column - 1 : column + 2] for a in (world.grey, world.mask))
    pairs = ok[:, 1:] & ok[:, :-1]
    gaps = grey[:, 1:].astype(float) - grey[:, :-1]
    assert found["g_contrast_-1_0"][row, column] == pytest.approx((gaps[pairs] ** 2).mean())


def test_texture_refuses_in_words(world: World) -> None:
    with pytest.raises(EngineError, match="glcmTexture: Inputs must be integer valued; band 'a'"):
        world.info(ee.Image("T/s").glcmTexture())
    with pytest.raises(EngineError, match="size must be between 1 and 32"):
        world.info(ee.Image("T/g").glcmTexture(0))


# ------------------------------------------------------------------ spectra


def reference(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    p, q = a / a.sum(), b / b.sum()
    if metric == "sam":
        return float(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    if metric == "sed":
        return float(((a - b) ** 2).sum())
    if metric == "sid":
        return float((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    return float(wasserstein_distance(np.arange(len(p)), np.arange(len(q)), p, q))


@pytest.mark.parametrize("metric", ["sam", "sid", "sed", "emd"])
def test_spectral_distances(world: World, metric: str) -> None:
    other = ee.Image("T/s").select(["d", "c", "b", "a"])
    found = world.all(ee.Image("T/h").spectralDistance(other, metric))
    assert list(found) == ["distance"]
    for row, column in ((0, 0), (5, 17), (23, 23)):
        spectrum = world.spectra[:, row, column]
        expected = reference(spectrum, spectrum[::-1], metric)
        if world.mask[row, column]:
            assert found["distance"][row, column] == pytest.approx(expected)
    np.testing.assert_array_equal(np.isfinite(found["distance"]), world.mask)


@pytest.mark.parametrize("centroid", [False, True])
@pytest.mark.parametrize("metric", ["sam", "sed"])
def test_spectral_morphology(world: World, metric: str, centroid: bool) -> None:
    "[A]: nearest and farthest of the spectra under the kernel, from the centre or the mean."
    kernel = ee.Kernel.fixed(3, 3, [[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    options = (metric, kernel, centroid)
    image = ee.Image("T/s")
    near = world.all(image.spectralErosion(*options), 9)
    far = world.all(image.spectralDilation(*options), 9)
    gradient = world.all(image.spectralGradient(*options), 9)["distance"]
    assert list(near) == list("abcd")
    places = [(-1, -1), (-1, 0), (0, -1), (0, 1), (1, 0), (1, 1)]
    for row, column in ((3, 3), (12, 7), (20, 21)):
        spectra = [world.spectra[:, row + r, column + c] for r, c in places]
        about = np.mean(spectra, axis=0) if centroid else world.spectra[:, row, column]
        order = np.argsort([reference(s, about, metric) for s in spectra])
        low, high = spectra[order[0]], spectra[order[-1]]
        np.testing.assert_allclose([near[b][row, column] for b in "abcd"], low)
        np.testing.assert_allclose([far[b][row, column] for b in "abcd"], high)
        assert gradient[row, column] == pytest.approx(reference(low, high, metric))


def test_spectral_functions_and_masks(world: World) -> None:
    "Masked neighbours take no part; by default the centre is its own nearest."
    same = world.all(ee.Image("T/h").spectralErosion())
    np.testing.assert_array_equal(same["a"], np.where(world.mask, world.spectra[0], np.nan))
    far = world.all(ee.Image("T/h").select("a").spectralDilation("sed"))["a"]
    values = np.where(world.mask, world.spectra[0], np.nan)
    row, column = np.argwhere(world.mask[1:-1, 1:-1])[7] + 1
    part = values[row - 1 : row + 2, column - 1 : column + 2]
    expected = part.ravel()[np.nanargmax(np.abs(part - values[row, column]))]
    assert far[row, column] == expected
    with pytest.raises(EngineError, match="Unknown metric 'x': sam, sid, sed, emd"):
        world.info(ee.Image("T/s").spectralGradient("x"))
    with pytest.raises(EngineError, match="same number of bands, not 4 and 1"):
        world.info(ee.Image("T/s").spectralDistance(ee.Image("T/g")))


# ------------------------------------------------------------------ S2 cells


def unit(points: Any) -> np.ndarray:
    lon, lat = np.radians(np.asarray(points)).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def solid_angle(points: Any) -> float:
    "Area of a spherical quadrilateral, as two triangles (Van Oosterom & Strackee 1983)."
    a, b, c, d = unit(points)

    def triangle(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
        top = x @ np.cross(y, z)
        return 2 * float(np.arctan2(top, 1 + x @ y + y @ z + z @ x))

    return triangle(a, b, c) + triangle(a, c, d)


def children(number: int) -> list[int]:
    "The marking one moves two places to the right; the two bits before it count the quarters."
    end = number & -number
    return [number - end + (2 * k + 1) * (end >> 2) for k in range(4)]


def test_faces_cover_the_sphere() -> None:
    faces = [(face << 61) | (1 << 60) for face in range(6)]
    for face in faces:
        assert solid_angle(corners(face)) == pytest.approx(4 * np.pi / 6)
    middles = [unit(corners(f)).mean(axis=0).round(6) for f in faces]
    expected = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    np.testing.assert_allclose(
        np.asarray(middles) / np.linalg.norm(middles[0]), expected, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_quarters_make_up_their_cell_along_a_path(seed: int) -> None:
    "Four children fill a cell, keep its corners, and each touches the next (Hilbert's curve)."
    random = np.random.default_rng(seed)
    number = (int(random.integers(6)) << 61) | (1 << 60)
    for _ in range(20):
        quarters = children(number)
        parts = [corners(q) for q in quarters]
        assert sum(map(solid_angle, parts)) == pytest.approx(solid_angle(corners(number)))
        known = {tuple(np.round(p, 12)) for part in parts for p in unit(part)}
        assert {tuple(np.round(p, 12)) for p in unit(corners(number))} <= known
        for one, two in itertools.pairwise(parts):
            shared = {tuple(np.round(p, 12)) for p in unit(one)} & {
                tuple(np.round(p, 12)) for p in unit(two)
            }
            assert len(shared) == 2
        number = quarters[int(random.integers(4))]


def test_cells_by_number_and_token(world: World) -> None:
    "[A] fromS2CellToken: the top level face containing Antarctica is 0xb000000000000000."
    found = world.info(ee.Geometry.fromS2CellToken("0xb000000000000000"))
    ring = np.asarray(found["coordinates"][0])
    assert len(ring) == 5
    np.testing.assert_allclose(ring[:, 1], -np.degrees(np.arcsin(1 / np.sqrt(3))), atol=1e-6)
    small = 0x465C_0000_0000_0000 | 1 << 40
    as_id = world.info(ee.Geometry.s2Cell(small))
    assert as_id == world.info(ee.Geometry.fromS2CellToken(f"{small:016x}"))
    assert as_id["type"] == "Polygon"
    for wrong in ("0000000000000000", "xyz", "e000000000000000", "1000000000000002"):
        with pytest.raises(EngineError, match="S2 cell"):
            world.info(ee.Geometry.fromS2CellToken(wrong))


# ------------------------------------------------------------------ without a family


def test_projection_transform_is_that_of_features(world: World) -> None:
    feature = ee.Feature(ee.Geometry.Point([15.1, 60.2]), {"a": 1})
    moved = ee.ApiFunction.call_("ProjectionTransform", feature, ee.Projection(UTM))
    assert world.info(moved) == world.info(feature.transform(UTM))


def test_classifiers_that_are_gone_say_so(world: World) -> None:
    with pytest.raises(EngineError, match=r"Classifier.cart: This classifier has been removed"):
        world.info(ee.ApiFunction.call_("Classifier.cart"))


def test_sums_are_those_of_ndimage(world: World) -> None:
    "The sum average is twice the mean of both pixels of all pairs."
    grey = world.grey.astype(float)
    found = world.all(ee.Image("T/g").glcmTexture(1, None, False))["g_savg_0_-1"]
    weights = np.array([[1, 1, 1], [2, 2, 2], [1, 1, 1]]) / 6
    expected = ndimage.correlate(grey, weights)
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1])
