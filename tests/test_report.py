"""The report: what it shows of a whole, a partial and an empty workspace, and that it is one file.

The workspace is made up here, in the formats that the parts write.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from PIL import Image
from scipy import ndimage
from shapely.geometry import Polygon, box

from thawslump import figures, results, scores
from thawslump import susceptibility_results as results_of
from thawslump.caveats import caveats
from thawslump.config import config_model, parse_model, save_yaml
from thawslump.evaluation import Bands, band_table, with_test_scores
from thawslump.files import write_json
from thawslump.grid import coarser, lonlat_bounds
from thawslump.ledger import Ledger
from thawslump.pictures import site_map
from thawslump.raster import grid_of, read, read_float, write_cog
from thawslump.report import plan_report, render, run
from thawslump.site import Site
from thawslump.vector import rasterize
from thawslump.workspace import Workspace

CRS = "EPSG:32652"
ROLES = {"upper": "train", "middle": "validation", "lower": "test", "valley": "area"}


def _ellipse(x: float, y: float, a: float, b: float, turn: float) -> Polygon:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t) * (1 + 0.25 * np.cos(t))
    c, s = np.cos(turn), np.sin(turn)
    return Polygon(np.stack([x + u * c - v * s, y + u * s + v * c], 1))


def _noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return field / field.std()


def make_workspace(root: Path, *, size: int = 96, upto: str = "all") -> Workspace:
    """Make a made-up workspace with the files that the parts write; no part of it is observed."""
    import geopandas

    from inventory.store import Candidate, Inventory, canonical_geometry

    rng = np.random.default_rng(7)
    values = {"name": "made-up valley", "made_up": True, "review": {"reviewer": "scripted"}}
    save_yaml(root / "thawslump.yaml", parse_model(config_model(), values, "test"))
    workspace = Workspace(root)
    grids: dict[str, GeoBox] = {}
    slumps: dict[str, list[Polygon]] = {}
    for number, (name, role) in enumerate(ROLES.items()):
        rows, columns = (size, int(1.6 * size)) if role == "area" else (size, size)
        grid = GeoBox((rows, columns), Affine(10, 0, 5e5 + number * 3e4, 0, -10, 7.9e6), CRS)
        grids[name] = grid
        left, top = grid.transform.c, grid.transform.f
        slumps[name] = [
            _ellipse(
                left + 10 * rng.uniform(8, columns - 8),
                top - 10 * rng.uniform(8, rows - 8),
                *sorted(rng.uniform(25, 85, 2), reverse=True),
                rng.uniform(0, 3),
            )
            for _ in range(max(4, rows * columns // 1600))
        ]
        site = Site(
            name=name,
            role=role,
            bounds=lonlat_bounds(grid),
            pre={"start": "2020-06-20", "end": "2020-09-01"},
            post={"start": "2023-06-20", "end": "2023-09-01"},
            outlines=None if role == "area" else Path(f"outlines/{name}.gpkg"),
            made_up=True,
        )
        save_yaml(root / ("areas" if role == "area" else "sites") / f"{name}.yaml", site)
    if upto == "sites":
        return workspace

    truth = {name: rasterize(slumps[name], grids[name]).astype(bool) for name in ROLES}
    for name, role in ROLES.items():
        _tiles(workspace, name, role, grids[name], truth[name], rng)
    if upto == "tiles":
        return workspace

    inventory = Inventory(workspace.inventory)
    for name, role in ROLES.items():
        if role != "area":
            frame = geopandas.GeoDataFrame(geometry=slumps[name], crs=CRS)
            inventory.import_outlines(name, frame, source="made up", made_up=True)
            for number in (1, 2):
                write_cog(
                    workspace.labels(number, name), truth[name][None].astype("uint8"), grids[name],
                    ["label"], nodata=None, categorical=True,
                )  # fmt: skip
    lonlat = geopandas.GeoDataFrame(geometry=slumps["valley"], crs=CRS).to_crs(4326).geometry
    for number in (1, 2):
        shapes = list(lonlat)[number - 1 :: 2]
        proposed = [
            Candidate(
                f"c{number}-{rank}", number, "valley", rank, canonical_geometry(shape),
                float(rng.uniform(0.5, 0.9)), 0.95, float(rng.uniform(0.02, 0.2)), 0.01,
                float(rng.uniform(2e3, 1.6e4)), 1 - rank / 99, True,
            )
            for rank, shape in enumerate(shapes, start=1)
        ]  # fmt: skip
        inventory.add_candidates(number, "valley", proposed)
        for candidate in proposed[: None if number == 1 else -1]:
            inventory.decide(
                candidate.candidate_id, "reject" if candidate.rank % 4 == 0 else "accept",
                "scripted", kind="scripted", seconds=2.5,
            )  # fmt: skip
        inventory.record_iteration(number, "went on" if number == 1 else "the last round allowed")
        _models(workspace, number, grids, truth, rng)
    _susceptibility(workspace, grids)
    ledger = Ledger(workspace.ledger, root)
    for number, (step, seconds) in enumerate(
        {"valley": 30.0, "export": 60.0, "train": 100.0, "predict": 9.0}.items()
    ):
        name = RUNS[0][0] if step == "train" else step
        ledger.start(step, 2, name, f"key{number}")
        ledger.finish(step, 2, name, [workspace.inventory], seconds, {})
    ledger.close()
    return workspace


def _tiles(workspace, name, role, grid, inside, rng) -> None:
    shape = tuple(grid.shape)
    soft = ndimage.gaussian_filter(inside.astype(float), 0.7)
    relief = _noise(rng, shape, shape[0] / 8)
    green = np.clip(0.55 + 0.12 * _noise(rng, shape, 6), 0, 1)
    change = (-0.28 * soft + 0.05 * rng.standard_normal(shape)).astype("float32")
    radar = [(-12 + _noise(rng, shape, 2)).astype("float32") for _ in range(6)]
    slope = (6 + 3 * np.abs(relief) + 2 * soft).astype("float32")
    change[:6, :9] = np.nan
    names = ["preVV", "postVV", "dVV", "preVH", "postVH", "dVH", "slope", "dNDVI"]
    write_cog(workspace.stack(name), np.stack([*radar, slope, change]), grid, names, nodata=np.nan)
    bands = []
    for lost in (0.0, 0.6):
        g = green - lost * 0.3 * soft
        noise = 60 * rng.standard_normal((4, *shape))
        clean = [1300 - 700 * g, 900 + 100 * g, 700 - 200 * g, 900 + 2600 * g]
        bands += list(np.stack(clean) + noise)
    shade = np.clip(140 + 500 * np.gradient(relief)[0] + 300 * np.gradient(relief)[1], 0, 255)
    context = np.clip(np.stack([*bands, shade]), 0, 60000).astype("uint16")
    colours = [f"{when}_{c}" for when in ("pre", "post") for c in ("red", "green", "blue", "nir")]
    write_cog(workspace.context(name), context, grid, [*colours, "hillshade"], nodata=65535)
    images = [{"index": f"2020{m:02d}", "date": f"2020-0{m}-15"} for m in (6, 7, 8)]
    write_json(
        workspace.item(name),
        {
            "properties": {
                "thawslump:made_up": True,
                "thawslump:images": {
                    "s1": {"collection": "COPERNICUS/S1_GRD", "pre": images, "post": images},
                    "dem": {"collection": "COPERNICUS/DEM/GLO30"},
                },
            }
        },
    )


RUNS = [
    ("unet-tu-regnetx_002-dice-1e-3-all-s0", "unet", "tu-regnetx_002", "dice", 0.58),
    ("fpn-tu-regnetx_002-bce-1e-3-all-s1", "fpn", "tu-regnetx_002", "bce", 0.55),
    ("linknet-tu-lcnet_100-focal-1e-3-all-s5", "linknet", "tu-lcnet_100", "focal", 0.51),
]


def _models(workspace, number, grids, truth, rng) -> None:
    def part(f1: float) -> dict:
        precision = f1 + 0.08
        recall = f1 * precision / (2 * precision - f1)
        return {
            "f1": f1, "precision": precision, "recall": recall, "bias": recall / precision,
            "f1_interval": {"low": f1 - 0.06, "high": f1 + 0.06, "blocks": 9, "block_pixels": 64},
        }  # fmt: skip

    models = workspace.models(number)
    for name, architecture, encoder, loss, f1 in RUNS:
        write_json(models / name / "metrics.json", {"run": name, "validation": part(f1)})
        settings = {
            "architecture": architecture, "encoder": encoder, "loss": loss,
            "learning_rate": 1e-3, "bands": "all", "seed": 0,
        }  # fmt: skip
        write_json(models / name / "item.json", {"properties": {"mlm:hyperparameters": settings}})
    write_json(
        models / "ensemble" / "metrics.json",
        {
            "members": [{"run": r[0], "f1": r[4], "weight": 1 / 3} for r in RUNS],
            "threshold": 0.45,
            "validation": part(0.6 + 0.02 * number),
            "sizes": [{"size": k, "f1": 0.55 + 0.02 * k, "added": "a"} for k in (1, 2, 3)],
        },
    )
    for name in ("lower", "valley"):
        shape = tuple(grids[name].shape)
        soft = ndimage.gaussian_filter(truth[name].astype(float), 1.2)
        probability = np.clip(0.9 * soft + 0.1 * np.abs(_noise(rng, shape, 2)), 0, 1)
        spread = 1.2 * probability * (1 - probability) * rng.uniform(0.5, 1, shape)
        stored = np.round(np.stack([probability, spread, np.zeros(shape)]) * 1e4).astype("uint16")
        stored[:, :4, :4] = 65535
        write_cog(
            workspace.maps(number) / f"{name}.tif", stored, grids[name],
            ["probability", "disagreement", "filled"], nodata=65535, scales=[1e-4] * 3,
        )  # fmt: skip


def _susceptibility(workspace, grids) -> None:
    def told(name: str, value: float) -> dict:
        return {name: value, f"{name}_interval": [value - 0.05, value + 0.04]}

    def kind(value: float, **more: object) -> dict:
        names = results_of.SCORES
        listed = {score: [value - 0.1, value - 0.15, value - 0.05] for score in names}
        return {**told("auc", value), "scores": {**listed, "auc": [value, 0.6, 0.9]}, **more}

    write_json(
        workspace.round(2) / "susceptibility.json",
        {
            "map_model": "forest", "best": "forest", "spatial": "blocked",
            "not_told_apart_from_best": ["logistic"],
            "models": {
                name: {
                    **told("auc_spatial", s), **told("auc_random", s + gap),
                    **told("gap_random_minus_spatial", gap), **told("auc_test", s - 0.04),
                    "auc_spatial_without": {"slope": s - 0.01, "NDVI": s - 0.1},
                    "by_kind": {
                        "random": kind(s + gap),
                        "blocked": kind(s, **told("gap_random_minus_spatial", gap)),
                        "regions": kind(s - 0.02, **told("gap_random_minus_spatial", gap)),
                    },
                    "scores_test": kind(s - 0.04)["scores"],
                    "dropped_in_folds": {"TRI": 9}, "folds_fitted": 10,
                    "importance": {"NDVI": told("fall", 0.02), "slope": told("fall", 0.13)},
                    **(told("auc_spatial_behind_best", 0.07) if name == "logistic" else {}),
                }
                for name, s, gap in (("logistic", 0.71, 0.01), ("forest", 0.78, 0.06))
            },
            "features": ["elevation", "slope", "aspect_east", "aspect_north", "NDVI"],
            "n_positive": 120, "n_negative": 120, "n_slumps": 33, "block_size_m": 1000.0,
            "label_rule": "a 30 m cell stands for a slump where half of its label pixels are slump",
            "classes": {
                "upper_probability": [0.15, 0.32, 0.5, 0.7, 1.0],
                "share_of_area": [0.4, 0.25, 0.16, 0.12, 0.07],
                "share_of_slump_cells_out_of_fold": [0.03, 0.08, 0.15, 0.3, 0.44],
                "share_of_slump_cells_held_out_sites": [0.05, 0.1, 0.15, 0.33, 0.37],
            },
            "cells_outside": {"valley": 150, "lower": 1},
            "cells_valid": {"valley": 1000, "lower": 999},
            "deformation": {
                "file": "points.csv", "stable_below": 10.0, "points_off_the_maps": 7,
                "classes": [
                    {"name": name, "points": 5 * n, "median": -2.0 * n, "share_moving": 0.1 * n,
                     "median_speed": 2.5 * n, "median_interval": [-3.0 * n, -1.0 * n]}
                    for n, name in enumerate(("very low", "low", "medium", "high", "very high"), 1)
                ],
            },
        },
    )  # fmt: skip
    for name, width in (("roc", 1400), ("maps", 300), ("of_my_own", 200)):
        path = workspace.round(2) / "susceptibility" / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(width).integers(0, 255, (200, width, 3), np.uint8)
        Image.fromarray(noise if name == "roc" else noise // 128 * 255).save(path)
    grid = coarser(grids["valley"], 30)
    shape = tuple(grid.shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    stored = (5000 + 4500 * np.sin(x / 6) * np.cos(y / 7)).astype("uint16")
    write_cog(
        workspace.maps(2) / "susceptibility-valley.tif",
        np.stack([stored, (x < 8).astype("uint16")]), grid, ["probability", "outside"],
        nodata=65535, scales=[1e-4, 1.0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> str:
    return render(workspace)


class Page(HTMLParser):
    """Collects identifiers, references, words and open tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.said: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        for name in ("href", "xlink:href", "src", "srcset", "action", "data"):
            if name in values:
                self.links.append(values[name])
        if tag not in ("meta", "input", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.said.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))


# One file -------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_outside_itself(page):
    parsed = Page(page)
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    assert "<script" not in page


def test_identifiers_are_unique_and_references_lead_somewhere(page):
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    for target in re.findall(r"url\(#([^)]+)\)", page):
        assert target in parsed.ids
    assert parsed.open == [] and parsed.faults == []


def test_equal_workspaces_give_equal_bytes(workspace, page):
    assert render(Workspace(workspace.root)) == page


def test_the_item_reads_what_it_depends_on(workspace, tmp_path):
    (item,) = plan_report(workspace, 2)
    assert all(path.exists() for path in item.inputs)
    names = {path.relative_to(workspace.root).as_posix() for path in item.inputs}
    assert {
        "tiles/valley/stack.tif", "rounds/2/maps/valley.tif", "rounds/2/susceptibility.json",
        "rounds/1/models/ensemble/metrics.json", "rounds/2/lower/labels.tif",
    } <= names  # fmt: skip
    json.dumps(item.settings)
    facts = run(item, workspace, lambda fraction, words: None)
    assert workspace.report.stat().st_size // 1024 == facts["kilobytes"]


def test_opening_the_inventory_does_not_make_the_report_stale(tmp_path):
    workspace = make_workspace(tmp_path, size=32)
    before = plan_report(workspace, 2)[0].settings["inventory"]
    db = sqlite3.connect(workspace.inventory)
    db.execute("UPDATE gpkg_contents SET last_change = '2030-01-01T00:00:00Z'")
    db.commit()
    db.execute("VACUUM")
    assert results.inventory_digest(workspace.inventory) == before
    db.execute("UPDATE candidates SET state = 'unsure' WHERE candidate_id = 'c1-1'")
    db.commit()
    db.close()
    assert results.inventory_digest(workspace.inventory) != before


# What it says ---------------------------------------------------------------------------------


def test_made_up_and_scripted_are_said(page):
    text = Page(page).text
    assert "Made-up data." in text and "Nothing here was observed" in text
    assert "Decided by a script" in text and "Scripted decisions." in text
    assert "scripted reviewer that knows the truth and errs on purpose" in text


def test_the_numbers_of_the_inventory(workspace, page):
    found = results.read(workspace)
    text = Page(page).text
    assert [r.number for r in found.rounds] == [1, 2]
    assert all(r.proposed == r.accepted + r.rejected + r.unsure + r.open for r in found.rounds)
    assert found.rounds[1].open == 1
    last = found.rounds[-1]
    assert last.slumps == found.known + sum(r.accepted for r in found.rounds)
    assert f"{last.slumps} slumps" in text
    assert found.kinds == {"scripted": sum(r.accepted + r.rejected for r in found.rounds)}
    (review,) = found.reviews
    assert review.seconds == 2.5 * review.decisions


def test_scores_on_the_test_site_are_those_of_scikit_learn(workspace):
    metrics = pytest.importorskip("sklearn.metrics")
    model = with_test_scores(workspace, results.read(workspace)).ensemble
    probability = read_float(workspace.maps(2) / "lower.tif", ["probability"]).array[0]
    labels = read(workspace.labels(2, "lower")).array[0]
    seen = np.isfinite(probability)
    called = probability[seen] >= model.threshold
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels[seen] == 1, called, average="binary"
    )
    found = model.splits["test"]
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    assert found.f1.value == pytest.approx(f1)
    assert found.f1.low <= f1 <= found.f1.high


def test_slumps_of_the_test_site_are_counted_as_objects(workspace):
    measure = pytest.importorskip("skimage.measure")
    model = with_test_scores(workspace, results.read(workspace)).ensemble
    probability = read_float(workspace.maps(2) / "lower.tif", ["probability"]).array[0]
    labels = read(workspace.labels(2, "lower")).array[0]
    seen = np.isfinite(probability) & (labels != 255)
    called = np.nan_to_num(probability, nan=-1) >= model.threshold
    slumps = measure.label((labels == 1) & seen, connectivity=2)
    found = model.facts["test"]
    assert found["objects"]["slumps"] == slumps.max()
    assert found["objects"]["mapped"] == measure.label(called & seen, connectivity=2).max()
    hit = [number for number in range(1, slumps.max() + 1) if called[slumps == number].any()]
    assert found["objects"]["touched"] == len(hit)
    assert found["boundary"]["tolerance_m"] == 20
    page = render(workspace)
    assert "slumps found as outlines (IoU at least 0.5)" in page
    assert f"{found['objects']['matched']} of {found['objects']['slumps']} <span" in page
    assert "F1 of edges within 20 m" in page


def test_scores_per_band_are_those_of_scikit_learn(workspace, page):
    metrics = pytest.importorskip("sklearn.metrics")
    table = band_table(workspace, results.read(workspace))
    rows = {row.name: row for row in table.rows}
    values, labels = [], []
    for name in ("lower", "middle", "upper"):
        values.append(read_float(workspace.stack(name), ["dNDVI"]).array[0].ravel())
        labels.append(read(workspace.labels(2, name)).array[0].ravel())
    value, label = np.concatenate(values), np.concatenate(labels)
    seen = np.isfinite(value)
    expected = metrics.roc_auc_score(label[seen], -value[seen])
    assert rows["dNDVI"].auc.value == pytest.approx(expected, abs=2e-3)
    assert rows["dNDVI"].direction == "lower"
    assert rows["dNDVI"].valid == pytest.approx(seen.mean())
    assert rows["dVV"].auc.value < 0.6
    assert table.rule_band == "dNDVI" and not table.rule.above
    assert "Sentinel-1 change carries next to no signal here" in Page(page).text


def test_the_gap_of_susceptibility_is_said_first(page):
    text = Page(page).text
    assert text.index("gap: random minus spatial folds") < text.index("spatial folds 0.78")
    assert "flatter the susceptibility model “forest” by 0.06 AUC" in text
    assert "model “logistic” by" not in text
    assert "Without NDVI the susceptibility model “forest” falls from AUC 0.78 to 0.68" in text
    assert "held-out sites 0.74 0.69 to 0.78" in text


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].partition("</section>")[0]


def test_all_models_of_susceptibility_in_one_table(page):
    "The gap comes first; the eight scores of each kind of folds are folded away"
    part = section(page, "susceptibility")
    text = Page(part).text
    assert text.index("gap, random − spatial") < text.index("AUC, spatial folds")
    # Best over spatial folds on top, and what lies behind it.
    assert text.index("random forest (draws the map)") < text.index("logistic regression")
    assert "0.070 0.02 to 0.11" in text
    folded = re.findall(r'<details class="scores">.*?</details>', part, re.DOTALL)
    assert len(folded) == 4 and "open" not in "".join(f[:30] for f in folded)
    names = ("accuracy", "G-mean", "specificity", "recall", "precision", "Heidke", "Matthews")
    assert all(name in Page(folded[0]).text for name in (*names, "kappa"))
    assert "0.68 0.63 to 0.73" in Page(folded[0]).text  # 0.78 - 0.1, over blocks
    assert "held-out sites" in Page(folded[3]).text
    # More than two kinds of folds stand beside each other, the one that judges marked.
    assert "blocks of ground (judges)" in text and "whole regions" in text
    assert "TRI in 9 of 10 folds" in text and "random forest" in text
    assert "slope 0.130, NDVI 0.020" in text
    assert "slump cells of held-out sites" in text and "37 %" in text


def test_where_the_susceptibility_model_may_not_be_asked(workspace, page):
    "The share is told by site, among what is weak too, and hatched on the map"
    assert "15 % of valley. Scores say nothing about it." in Page(section(page, "careful")).text
    assert "lower" not in section(page, "careful").partition("hatched on its map")[2][:40]
    assert "“logistic” cannot be told from it" in Page(section(page, "careful")).text
    assert "valley 1 000 15 %" in Page(section(page, "susceptibility")).text
    found = site_map(workspace, workspace.site("valley"), results.read(workspace))
    (layer,) = [layer for layer in found.layers if layer.key == "susceptibility"]
    assert [words for _, words in layer.classes][-2:] == [
        "very high", "unlike anything learned from",
    ]  # fmt: skip
    content = base64.b64decode(layer.uri.partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    line = np.array([0x0B, 0x3C, 0x8C])
    hatched = (picture == line).all(axis=2)
    across = hatched.mean(axis=0)
    edge = picture.shape[1] * 8 // grid_of(workspace.maps(2) / "susceptibility-valley.tif").shape[1]
    assert not across[edge:].any() and 0.2 < across[:edge].mean() < 0.4


def test_deformation_points_by_class(page):
    text = Page(section(page, "susceptibility")).text
    assert "very high 25 −10.00 −15.00 to −5.00 12.50 50 %" in text
    assert "faster than 10 mm/yr" in text and "points.csv; 7 of its points" in text


def test_figures_of_susceptibility_are_in_the_page(page):
    "Wide ones are thinned; what is smaller as it was stays as it was; unknown ones come last"
    part = section(page, "susceptibility")
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" width="(\d+)"', part)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).width for data, _ in pictures]
    assert sizes == [int(width) for _, width in pictures] == [1100, 300, 200]
    assert "of_my_own." in part[part.index("Maps side by side") :]
    assert len(pictures[0][0]) < 450_000


def test_a_susceptibility_of_an_earlier_version_is_still_shown(workspace, tmp_path):
    "Nothing of what is newer is needed"
    import shutil

    root = tmp_path / "older"
    shutil.copytree(workspace.root, root)
    shutil.rmtree(root / "rounds" / "2" / "susceptibility")
    path = root / "rounds" / "2" / "susceptibility.json"
    facts = json.loads(path.read_text())
    for key in ("cells_outside", "cells_valid", "deformation", "not_told_apart_from_best"):
        del facts[key]
    del facts["classes"]["share_of_slump_cells_held_out_sites"]
    for each in facts["models"].values():
        for key in ("by_kind", "scores_test", "dropped_in_folds", "importance", "folds_fitted"):
            del each[key]
        each.pop("auc_spatial_behind_best", None)
    write_json(path, facts)
    part = section(render(Workspace(root)), "susceptibility")
    assert "random forest (draws the map)" in part and "Classes of the map" in part
    for absent in ("eight scores", "may be asked", "Deformation", "<img", "behind the best"):
        assert absent not in part


def test_runs_and_ensemble(workspace, page):
    found = results.read(workspace)
    assert [run.architecture for run in found.runs_of(2)] == ["unet", "fpn", "linknet"]
    assert found.ensemble.members == tuple(run[0] for run in RUNS)
    assert found.runs_of(2)[0].seconds == 100.0
    text = Page(page).text
    assert "tu-regnetx_002" in text and "ensemble of 3, threshold 0.45" in text


def test_what_was_used_and_what_it_cost(page):
    text = Page(page).text
    assert "COPERNICUS/S1_GRD" in text and "2020-07-15" in text
    assert "100 s" in text and "learning_rate" in text


def test_outlines_lie_where_they_are(workspace):
    found = site_map(workspace, workspace.site("lower"), results.read(workspace))
    import geopandas

    slumps = geopandas.read_file(workspace.inventory, layer="slumps").to_crs(CRS)
    slumps = slumps[slumps.site == "lower"]
    assert found.counts == {"known": len(slumps)}
    a = ~grid_of(workspace.stack("lower")).transform
    bounds = slumps.geometry.bounds
    expected = np.stack([a.a * bounds.minx + a.c, a.e * bounds.maxy + a.f], axis=1)
    shown = np.array(sorted(o.box[:2] for o in found.outlines))
    np.testing.assert_allclose(shown, expected[np.lexsort(expected.T[::-1])], atol=0.01)


def test_layers_and_outlines_are_switched_without_a_script(page, tmp_path):
    """In Chromium: the chosen background shows, keys hide outlines, nothing is fetched."""
    from review_browser import chromium, find_chromium

    if find_chromium() is None:
        pytest.skip("no Chromium here")
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    with chromium() as view:
        asked: list[str] = []
        view.on("request", lambda request: asked.append(request.url))
        view.goto(path.as_uri())

        def shown() -> list[str]:
            return view.evaluate(
                "[...document.querySelectorAll('article:first-of-type .viewer .map > g')]"
                ".filter(g => /^g-/.test(g.getAttribute('class')))"
                ".filter(g => getComputedStyle(g).display != 'none')"
                ".map(g => g.getAttribute('class'))"
            )

        assert len(shown()) == 1
        for key in ("before", "dndvi", "probability"):
            view.locator(f"label[for=bg-valley-{key}]").click()
            assert shown() == [f"g-{key}"]
        line = view.locator(".viewer .map .accepted .line").first
        assert line.is_visible()
        view.locator("label[for=o-valley-accepted]").click()
        assert not line.is_visible()
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_test_site_inside_an_area_is_not_held_out_for_long(tmp_path):
    workspace = make_workspace(tmp_path, size=32, upto="sites")
    assert not any("overlaps" in said for said in caveats(workspace, results.Results(1), Bands()))
    area = workspace.site("valley")
    moved = area.model_copy(update={"bounds": workspace.site("lower").bounds})
    save_yaml(tmp_path / "areas" / "valley.yaml", moved)
    (said,) = [s for s in caveats(Workspace(tmp_path), results.Results(1), Bands()) if "lower" in s]
    assert said.startswith("The test site lower overlaps valley; places decided there join")


# Less than a whole workspace -------------------------------------------------------------------


@pytest.mark.parametrize("upto", ["sites", "tiles"])
def test_a_partial_workspace_says_what_is_not_there(tmp_path, upto):
    text = Page(render(make_workspace(tmp_path, size=32, upto=upto))).text
    assert "No models yet: the steps train and ensemble have not run." in text
    assert "No outlines yet" in text and "No susceptibility models yet" in text
    assert "No ledger: nothing was run here." in text
    assert ("No tiles yet" in text) == (upto == "sites")
    assert ("NDVI change" in text) == (upto == "tiles")


def test_an_empty_workspace(tmp_path):
    save_yaml(tmp_path / "thawslump.yaml", config_model()(name="a & b <c>"))
    page = render(Workspace(tmp_path))
    assert "<h1>a &amp; b &lt;c&gt;</h1>" in page
    text = Page(page).text
    assert "Made-up" not in text and "No sites or areas yet." in text


@pytest.mark.parametrize("made_up", [False, True])
def test_data_and_their_terms(tmp_path, made_up):
    """Each source once, with those whom it is for; terms that exclude something stand out."""
    key = "/keys/of-somebody.json"
    save_yaml(tmp_path / "thawslump.yaml", config_model()(backend={"service_account_key": key}))
    rows = [
        {"source": "dem", "id": "COPERNICUS/DEM/GLO30", "title": "Copernicus DEM",
         "attribution": "(c) DLR", "licence": "Copernicus DEM terms", "non_commercial": False},
        {"source": "upslope", "id": "MERIT/Hydro/v1_0_1", "title": "MERIT Hydro",
         "attribution": "Yamazaki et al. 2019", "licence": "CC-BY-NC 4.0", "non_commercial": True},
    ]  # fmt: skip
    workspace = Workspace(tmp_path)
    for name, used in (("east", rows), ("west", rows[:1])):
        site = Site(
            name=name, role="area", bounds=(129.0, 71.8, 129.1, 71.82), made_up=made_up,
            pre={"start": "2020-06-15", "end": "2020-09-01"},
            post={"start": "2023-06-15", "end": "2023-09-01"},
        )  # fmt: skip
        save_yaml(tmp_path / "areas" / f"{name}.yaml", site)
        write_json(workspace.item(name), {"properties": {"thawslump:attributions": used}})
    page = render(Workspace(tmp_path))
    text = " ".join(Page(page).text.split())
    assert "Data and their terms 2 sources, not all free for commercial use" in text
    assert page.count("(c) DLR") == 1 and "east, west" in text
    assert "Not free for commercial use. CC-BY-NC 4.0" in text
    words = "MERIT Hydro is not free for commercial use (CC-BY-NC 4.0)"
    assert (words in text) is not made_up
    assert key not in page and "service_account_key: (set)" in page


def test_a_band_that_is_absent_is_said(tmp_path):
    workspace = make_workspace(tmp_path, size=32)
    stack = read(workspace.stack("upper"))
    kept = [i for i, name in enumerate(stack.names) if name not in ("dVV", "slope")]
    write_cog(
        workspace.stack("upper"), stack.array[kept], stack.grid,
        [stack.names[i] for i in kept], nodata=np.nan,
    )  # fmt: skip
    assert "dVV, slope are absent in upper" in Page(render(workspace)).text


def test_choices_units_and_what_was_left_out_are_said(tmp_path):
    """What the export settled for a site stands beside its bands and images."""
    workspace = make_workspace(tmp_path, size=32, upto="tiles")
    path = workspace.item("upper")
    item = json.loads(path.read_text())
    item["properties"] |= {
        "thawslump:slope_correction": "volume",
        "thawslump:vegetated_share": 0.83,
        "thawslump:orbits": [["DESCENDING", 91]],
        "thawslump:look_direction": 104.2,
        "thawslump:platforms": {"pre": {"A": 6}, "post": {"A": 5, "C": 1}},
        "thawslump:cloud_mask": "cloud_score",
        "thawslump:left_out": {"KG_climate": "sources.climate names no asset"},
    }
    write_json(path, item)
    text = " ".join(Page(render(Workspace(tmp_path))).text.split())
    assert "slope correction volume model (83 % of the site is vegetated)" in text
    assert "descending, relative orbit 91, satellite at 104 degrees from grid north" in text
    assert "pre: A (6); post: A (5), C (1)" in text
    assert "cloud mask Cloud Score+ and scene classification" in text
    assert "Left out: KG_climate (sources.climate names no asset)." in text
    assert "preVV (dB), postVV (dB)" in text.replace(" (dB) ,", " (dB),")
    assert "slope (degree)" in text and "dNDVI" in text


COVER = {
    "points": {
        "used": 90, "from": "ESA/WorldCover/v200", "per_class": {"water, sea": 30, "wetland": 60},
        "note": "drawn from a map, whose own errors no figure here shows",
    },
    "image": {"date": "2020-07-21", "clear_share": 0.97},
    "accuracy": {
        "grouped": {
            "by": "block of 500 m", "folds": 5, "overall": 0.64, "kappa": 0.41,
            "producers": {"water, sea": 0.9, "wetland": 0.5},
            "users": {"water, sea": 0.8, "wetland": None},
        },
        "random": {"by": "point at random", "folds": 5, "overall": 0.88, "kappa": 0.8},
    },
}  # fmt: skip


def test_land_cover_is_judged_by_groups_first(tmp_path):
    workspace = make_workspace(tmp_path, size=32, upto="tiles")
    path = workspace.item("upper")
    item = json.loads(path.read_text())
    item["properties"]["thawslump:landcover"] = COVER
    write_json(path, item)
    unknown = {"by": "polygon or group", "refused": "all points lie in one group"}
    one = {"points": {"used": 4, "from": "mine.gpkg"}, "accuracy": {"grouped": unknown}}
    item["properties"]["thawslump:landcover"] = one
    write_json(workspace.item("lower"), item)
    text = " ".join(Page(render(Workspace(tmp_path))).text.split())
    assert text.index("kept together accuracy kappa") < text.index("accuracy, random")
    assert "upper 90 ESA/WorldCover/v200 2020-07-21 97 % block of 500 m 0.64 0.41 0.88" in text
    assert "lower 4 mine.gpkg – all points lie in one group – – – –" in text
    assert "wetland 60 50 % –" in text
    assert "The land cover of upper is wrong on 36 % of the points" in text
    assert "Random folds flatter the land cover of upper: accuracy 0.88 against 0.64" in text
    assert "How right the land cover of lower is, is not known." in text
    assert "Points drawn from a map, whose own errors no figure here shows." in text


def test_classes_unknown_to_the_models_are_said(workspace):
    """Shares of validation from the members, those of maps from their tags, cells by factor."""
    from dataclasses import replace

    found = results.read(workspace)
    odd = {"middle": {"KG_climate": 0.004, "CART_LC_classified": 0.2}}
    runs = [replace(run, facts={**run.facts, "unseen_classes": odd}) for run in found.runs]
    facts = {"cells_with_unseen_classes": {"lower": {"lithology": 12}}}
    said = caveats(workspace, replace(found, runs=tuple(runs), susceptibility_facts=facts), Bands())
    assert (
        "On 20 % of the pixels of middle the band CART_LC_classified holds a class that no "
        "training site has; the models see its training mean there."
    ) in said
    assert any(words.startswith("On less than 1 % of the pixels of middle") for words in said)
    assert any(words.startswith("12 cells of lower have a class of lithology") for words in said)


def test_class_numbers_are_scored_by_their_slumps(tmp_path):
    """Class 5 between 2 and 7 holds the slumps: no order of numbers would find it."""
    workspace = make_workspace(tmp_path, size=64)
    for name in ROLES:
        stack = read(workspace.stack(name))
        rng = np.random.default_rng(1)
        classes = rng.choice([2.0, 7.0], stack.array.shape[1:]).astype("float32")
        path = workspace.labels(2, name)
        if path.exists():
            classes[read(path).array[0] == 1] = 5.0
        write_cog(
            workspace.stack(name),
            np.concatenate([stack.array, classes[None], 0 * classes[None]]), stack.grid,
            [*stack.names, "CART_LC_classified", "layover"], nodata=np.nan,
        )  # fmt: skip
    table = band_table(workspace, results.read(workspace))
    rows = {row.name: row for row in table.rows}
    row = rows["CART_LC_classified"]
    assert row.auc.value == pytest.approx(1.0) and row.direction == "by class"
    assert rows["layover"].auc.value == 0.5 and rows["layover"].direction == "does not vary"
    assert table.rule_band == "dNDVI", "a threshold on class numbers is no rule"


def test_a_large_area_is_thinned_to_a_picture(tmp_path):
    workspace = make_workspace(tmp_path, size=32, upto="sites")
    grid = GeoBox((40, 2400), Affine(10, 0, 5e5, 0, -10, 7.9e6), CRS)
    values = np.zeros((1, 40, 2400), "float32")
    values[:, :, 1200:] = -0.4
    write_cog(workspace.stack("valley"), values, grid, ["dNDVI"], nodata=np.nan)
    found = site_map(workspace, workspace.site("valley"), results.read(workspace))
    (layer,) = found.layers
    picture = Image.open(io.BytesIO(base64.b64decode(layer.uri.split(",")[1])))
    assert picture.size == (1000, 17) and (found.width, found.height) == (2400, 40)


def test_a_site_with_neither_images_nor_ndvi_shows_its_first_band(tmp_path):
    workspace = make_workspace(tmp_path, size=32, upto="sites")
    grid = GeoBox((32, 50), Affine(10, 0, 5e5, 0, -10, 7.9e6), CRS)
    values = np.arange(1600, dtype="float32").reshape(1, 32, 50)
    write_cog(workspace.stack("valley"), values, grid, ["roughness"], nodata=np.nan)
    found = site_map(workspace, workspace.site("valley"), results.read(workspace))
    assert [layer.title for layer in found.layers] == ["roughness"]
    assert found.background == "band"
    assert "First band of the stack." in Page(render(workspace)).text


def test_the_small_demo_has_a_whole_report(small_demo):
    """End to end: what the chain wrote is read, and no section is empty."""
    text = Page((small_demo / "report.html").read_text(encoding="utf-8")).text
    assert "Made-up data." in text and "Scripted decisions." in text
    for missing in ("have not run", "has not run", "No tile yet", "nothing was run here"):
        assert missing not in text
    assert "COPERNICUS/S2_SR_HARMONIZED" in text


# Kernels ---------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**31), st.integers(20, 400), st.sampled_from([2, 7, 64]), st.booleans()
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_band_auc_agrees_with_scikit_learn(seed, size, levels, missing):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, size).astype(float)
    labels = (rng.random(size) < 0.4).astype(np.uint8)
    labels[:2] = 0, 1
    if missing:
        values[2:5] = np.nan
    labels[5] = 255
    found = scores.band_auc(values, labels, np.arange(size) // 10, resamples=20)
    kept = np.isfinite(values) & (labels != 255)
    assert found[0] == pytest.approx(metrics.roc_auc_score(labels[kept], values[kept]))
    assert found[3] + found[4] == kept.sum()


@given(st.integers(0, 2**31), st.sampled_from([3, 40]))
@settings(max_examples=30, deadline=None)
def test_the_best_rule_is_the_best_of_all_thresholds(seed, levels):
    rng = np.random.default_rng(seed)
    band = rng.integers(0, levels, 60).astype(np.float32)
    labels = (rng.random(60) < 0.3).astype(np.uint8)
    labels[0] = 1
    rule = scores.best_rule(band, labels)

    def f1(called):
        hits = (called & (labels == 1)).sum()
        return 2 * hits / (called.sum() + (labels == 1).sum())

    every = [f1(band >= v) for v in np.unique(band)] + [f1(band <= v) for v in np.unique(band)]
    assert f1(rule.as_probability(band) == 1) == pytest.approx(rule.f1)
    # Of the rules that call everything, only "at most the largest" is tried: the same F1.
    assert rule.f1 == pytest.approx(max(every))


def test_intervals_hold_their_promise():
    """Of many draws of independent blocks, 95 % intervals hold the true F1 about that often."""
    rng = np.random.default_rng(3)
    held = 0
    for number in range(200):
        counts = np.stack([rng.poisson(m, 60) for m in (20, 10, 10)], axis=1)
        _, low, high = scores.f1_interval(counts, resamples=300, seed=number)
        held += low <= 2 / 3 <= high
    assert 180 <= held <= 199


def test_a_picture_shows_missing_values_as_transparent():
    values = np.array([[0.0, 0.5], [1.0, np.nan]])
    data = figures.indexed_png(values, figures.ramp("viridis"), 0, 1)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert shown[1, 1, 3] == 0 and (shown[..., 3] == 255).sum() == 3
    assert shown[0, 0, :3].tolist() == figures.ramp("viridis")[0].tolist()
    assert shown[1, 0, :3].tolist() == figures.ramp("viridis")[255].tolist()


def test_every_pixel_of_an_error_map_is_one_thing():
    probability = np.array([[0.9, 0.1, 0.9, 0.1, np.nan]])
    labels = np.array([[1, 1, 0, 0, 255]], np.uint8)
    found = figures.error_colours(probability, labels, 0.5)[0]
    expected = ("found", "missed", "false alarm", "rightly none", "not looked at")
    assert [tuple(c) for c in found.tolist()] == [figures.ERRORS[key] for key in expected]


@given(st.floats(0.1, 100), st.integers(20, 20000))
def test_scale_bars_are_round_and_fit(metres, width):
    words, length = figures.scale_bar(metres, width)
    number, unit = words.split()
    value = float(number) * (1000 if unit == "km" else 1)
    assert 0.1 * width <= length * (1 + 1e-9) and length <= 0.25 * width * (1 + 1e-9)
    assert length * metres == pytest.approx(value)
    assert f"{value:e}"[0] in "125"


def test_outlines_with_holes_become_paths_with_two_rings():
    ring = box(0, 0, 30, 30).difference(box(10, 10, 20, 20))
    path = figures.outline_path(ring, (0.1, 0, 0, 0, -0.1, 3))
    assert path.count("M") == 2 == path.count("Z")
    assert set(re.findall(r"[\d.]+", path)) == {"0", "1", "2", "3"}


def test_charts_are_the_same_for_the_same_points():
    points = [figures.Point(0.5, 0.6, "unet"), figures.Point(0.7, 0.7, "ensemble", strong=True)]
    first = figures.performance_diagram(points)
    assert first == figures.performance_diagram(points)
    assert "dc:date" not in first and first.startswith("<svg")
    assert figures.performance_diagram([]) != first
