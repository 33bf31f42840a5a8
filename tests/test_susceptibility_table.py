"""Samples as a table: what is written is read, whatever the factors and sites are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thawslump.errors import DataError
from trainer.susceptibility import table
from trainer.susceptibility.table import Samples

NAMES = st.lists(
    st.one_of(
        st.sampled_from(["label", "site", "slump", "east", "north", "geometry", "factor label"]),
        st.text("abcXYZ_@.µ 0123456789", min_size=1, max_size=8),
    ),
    min_size=1, max_size=5, unique=True,
)  # fmt: skip


def made_up(names: list[str], count: int = 20, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.5).astype(np.uint8)
    factors = {name: rng.normal(size=count).astype(np.float32) for name in names}
    factors[names[0]][:3] = np.nan
    return Samples(
        factors=factors,
        labels=labels,
        places=rng.uniform(-5e3, 5e3, (count, 2)),
        sites=rng.integers(0, 2, count),
        site_names=("b", "a"),
        slumps=np.where(labels == 1, rng.integers(0, 9, count), -1),
        lonlat=rng.uniform(-80, 80, (count, 2)),
        facts={"label_rule": "half", "by_site": {"a": {"slumps": 3}}, "share": 0.25},
    )


@settings(max_examples=25, deadline=None)
@given(names=NAMES, seed=st.integers(0, 99))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], seed: int
) -> None:
    "To the bit, in the order of the factors, also where they are called as our own columns"
    path = tmp_path_factory.mktemp("table") / "samples.parquet"
    samples = made_up(names, seed=seed)
    table.write(path, samples)
    again = table.read(path)
    assert list(again.factors) == names
    for name in names:
        assert np.array_equal(again.factors[name], samples.factors[name], equal_nan=True)
    for name in ("labels", "places", "sites", "slumps", "lonlat"):
        assert np.array_equal(getattr(again, name), getattr(samples, name))
        assert getattr(again, name).dtype == getattr(samples, name).dtype
    assert again.site_names == samples.site_names and dict(again.facts) == dict(samples.facts)
    first = path.read_bytes()
    table.write(path, again)
    assert path.read_bytes() == first


def test_others_can_read_it(tmp_path: Path) -> None:
    "GeoPandas sees points in degrees and the names of the sites"
    samples = made_up(["slope"])
    table.write(tmp_path / "samples.parquet", samples)
    frame = gpd.read_parquet(tmp_path / "samples.parquet")
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry.x.tolist() == samples.lonlat[:, 0].tolist()
    assert frame["site"].tolist() == [("b", "a")[n] for n in samples.sites]
    assert frame["label"].tolist() == samples.labels.tolist()
    assert frame["slope"].isna().sum() == 3


def test_no_sample_is_a_table_too(tmp_path: Path) -> None:
    table.write(tmp_path / "none.parquet", made_up(["slope", "lithology"]).none())
    again = table.read(tmp_path / "none.parquet")
    assert len(again.labels) == 0 and list(again.factors) == ["slope", "lithology"]
    assert again.features.shape == (0, 2) and again.places.shape == (0, 2)


def test_two_sites_of_one_name_are_refused(tmp_path: Path) -> None:
    samples = replace(made_up(["slope"]), site_names=("a", "a"))
    with pytest.raises(DataError, match=r"sites a, a share a name.*\nRename one"):
        table.write(tmp_path / "samples.parquet", samples)
    assert not list(tmp_path.iterdir())


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    gpd.pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(DataError, match=r"holds no samples.*\n.*susceptibility select"):
        table.read(path)
    assert b"thawslump" not in (pq.read_schema(path).metadata or {})


def test_blocks_of_sites_differ_wherever_they_lie() -> None:
    samples = replace(made_up(["slope"]), places=np.zeros((20, 2)))
    blocks = samples.blocks(1000.0)
    assert np.unique(blocks).size == 2
    assert np.array_equal(blocks == blocks[0], samples.sites == samples.sites[0])
