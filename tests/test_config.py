"""Typed YAML: what is wrong is named, with the nearest known word."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from thawslump.config import ExecutorConfig, commented_yaml, config_model, load_model, parse_model
from thawslump.errors import ConfigError
from thawslump.files import write_text
from thawslump.site import Site
from thawslump.starter import make
from thawslump.workspace import Workspace

SITE = """
name: a
role: area
bounds: [129.0, 71.8, 129.1, 71.82]
pre: {start: 2020-06-15, end: 2020-09-01}
post: {start: 2023-06-15, end: 2023-09-01}
"""


def test_unknown_key_comes_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SITE + "resolutoin: 10\n")
    with pytest.raises(
        ConfigError, match=r'a\.yaml: unknown key "resolutoin"\. Did you mean "resolution"\?'
    ):
        load_model(Site, path)


def test_unknown_key_in_a_section_is_looked_up_in_that_section() -> None:
    with pytest.raises(
        ConfigError, match=r'unknown key "executor.wrokers"\. Did you mean "workers"'
    ):
        parse_model(config_model(), {"executor": {"wrokers": 2}}, "thawslump.yaml")


def test_unknown_key_without_a_near_one_lists_the_known() -> None:
    with pytest.raises(
        ConfigError, match=r'unknown key "zzz"\. Known keys: kind, workers, address'
    ):
        parse_model(ExecutorConfig, {"zzz": 1}, "x.yaml")


def test_wrong_value_shows_what_was_given() -> None:
    with pytest.raises(ConfigError, match=r"executor.workers = 0: Input should be greater"):
        parse_model(config_model(), {"executor": {"workers": 0}}, "thawslump.yaml")


def test_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nrole: area\n")
    with pytest.raises(ConfigError, match=r'the key "bounds" is missing'):
        load_model(Site, path)


def test_window_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SITE.replace("end: 2020-09-01", "end: 2020-05-01"))
    with pytest.raises(ConfigError, match="start 2020-06-15 is not before end 2020-05-01"):
        load_model(Site, path)


def test_training_site_without_outlines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SITE.replace("role: area", "role: train"))
    with pytest.raises(ConfigError, match="a site with role train needs `outlines`"):
        load_model(Site, path)


def test_broken_yaml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: [a\nrole: area\n")
    with pytest.raises(ConfigError, match=r"a\.yaml (?s:is not valid YAML.*line: [12])"):
        load_model(Site, path)


def test_name_and_file_name_must_agree(tmp_path: Path) -> None:
    write_text(tmp_path / "areas" / "b.yaml", SITE)
    with pytest.raises(ConfigError, match=r'name is "a", but the file is called b\.yaml'):
        Workspace(tmp_path).sites  # noqa: B018


def test_unknown_site_offers_the_nearest(tmp_path: Path) -> None:
    write_text(tmp_path / "areas" / "north.yaml", SITE.replace("name: a", "name: north"))
    with pytest.raises(ConfigError, match=r'There is no site "nroth".* Did you mean "north"'):
        Workspace(tmp_path).site("nroth")


def test_folder_without_settings_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no workspace: it has no thawslump\.yaml"):
        Workspace(tmp_path).config  # noqa: B018


def test_starter_files_read_back_as_the_defaults(tmp_path: Path) -> None:
    """The commented starter is generated from the models, so it must load as it is."""
    written = make(tmp_path / "w")
    assert Workspace(tmp_path / "w").config == config_model()()
    assert load_model(Site, written[1]).name == "beiluhe"
    text = written[0].read_text()
    assert "# items worked on at the same time" in text
    with pytest.raises(ConfigError, match="this is a workspace already"):
        make(tmp_path / "w")


def test_every_line_of_the_starter_is_explained() -> None:
    """Each key has the words of its description above it."""
    lines = commented_yaml(config_model()()).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.strip().endswith(":") and not line.startswith(" "):
            assert before.startswith("#"), line
