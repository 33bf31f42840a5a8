"""Date windows: same season, never the event itself, never overlapping."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from thawslump.cli import main
from thawslump.config import commented_yaml, parse_model
from thawslump.errors import ConfigError
from thawslump.site import Site
from thawslump.windows import around, out_of_season, same_season, series, shifted
from thawslump.workspace import Workspace

days = st.dates(date(2015, 1, 1), date(2040, 12, 31))


@given(days, st.integers(1, 12))
def test_neither_window_holds_the_event(event: date, months: int) -> None:
    for pair in (around(event, months), same_season(event, months)):
        assert pair.pre.end <= event < pair.post.start
        assert pair.post.start == event + timedelta(days=1)
        length = pair.post.end - pair.post.start
        assert 28 * months <= length.days <= 31 * months


@given(days, st.integers(1, 12))
def test_the_year_before_is_the_same_season(event: date, months: int) -> None:
    pair = same_season(event, months)
    for before, after in ((pair.pre.start, pair.post.start), (pair.pre.end, pair.post.end)):
        assert abs((after - before).days - 365) <= 4


@given(days, st.integers(-60, 60))
def test_shifted_keeps_the_day_or_ends_the_month(day: date, months: int) -> None:
    found = shifted(day, months)
    assert (found.year * 12 + found.month) - (day.year * 12 + day.month) == months
    assert found.day == day.day or (found + timedelta(days=1)).day == 1


@given(days, st.integers(1, 12))
def test_the_same_season_is_told_from_another(event: date, months: int) -> None:
    assert out_of_season(*same_season(event, months)) <= 2
    apart = out_of_season(*around(event, months))
    # The middles lie as far apart as the windows are long, round the year.
    expected = min(months, 12 - months) * 30.4
    assert apart == pytest.approx(0 if months >= 11 else expected, abs=3)


def test_a_series_of_summers() -> None:
    pairs = series(2018, 2021, (6, 15), (9, 15))
    assert [str(p.pre) for p in pairs] == [
        "2018-06-15 .. 2018-09-15", "2019-06-15 .. 2019-09-15", "2020-06-15 .. 2020-09-15",
    ]  # fmt: skip
    assert all(a.post == b.pre for a, b in itertools.pairwise(pairs))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: around(date(2020, 1, 1), 0), "window of 0 months is empty"),
        (lambda: same_season(date(2020, 1, 1), 13), "13 months of the year before 2020-01-01"),
        (lambda: series(2020, 2020), "from 2020 to 2020 holds no change"),
        (lambda: series(2020, 2021, (9, 1), (7, 1)), "season from 09-01 to 07-01 is empty"),
        (lambda: series(2020, 2021, (2, 29), (3, 9)), "does not exist in 2021"),
    ],
)
def test_what_makes_no_window_is_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=words):
        make()


AREA = {"name": "a", "role": "area", "bounds": (129.0, 71.8, 129.1, 71.82)}
PLACE = ["--bounds", "129", "71.8", "129.1", "71.82"]


@given(st.dates(date(2016, 1, 1), date(2030, 12, 31)), st.integers(1, 12), st.booleans())
def test_an_event_gives_both_windows_and_survives_the_file(
    event: date, months: int, same: bool
) -> None:
    season = "same" if same else "around"
    site = Site(**AREA, event=event, months=months, season=season)
    pair = (same_season if same else around)(event, months)
    assert (site.pre, site.post) == (pair.pre, pair.post)
    yaml = YAML(typ="safe")
    # As `site add` writes it, and as a program that writes every field does.
    for written in (site.as_given(), site):
        assert parse_model(Site, yaml.load(commented_yaml(written)), "a.yaml") == site
    assert site.as_given().pre is None
    plain = Site(**AREA, pre=pair.pre, post=pair.post)
    assert plain.as_given() is plain


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"event": "2023-05-16"}, "event 2023-05-16 needs months"),
        ({"months": 2}, "months is 2, but there is no event"),
        ({"season": "around"}, "season is around, but there is no event"),
        ({"event": "2023-05-16", "months": 13}, "13 months of the year before 2023-05-16 reach"),
        (
            {
                "event": "2023-05-16",
                "months": 2,
                "pre": {"start": "2022-06-01", "end": "2022-07-01"},
            },
            "pre is 2022-06-01 .. 2022-07-01, but event 2023-05-16 with months 2 and season same "
            "gives 2022-05-16 .. 2022-07-16; remove pre and post, or remove event and months",
        ),
        ({}, "give both, or event and months, or set source: files"),
    ],
)
def test_dates_that_contradict_each_other_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_model(Site, AREA | values, "a.yaml")
    assert words in str(refused.value)
    assert "Value error" not in str(refused.value)


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    run("new", str(tmp_path / "w"))
    capsys.readouterr()
    return tmp_path / "w"


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def add(folder: Path, name: str, *words: str) -> int:
    return run("--workspace", str(folder), "site", "add", name, *PLACE, *words)


def test_a_site_from_an_event(folder: Path) -> None:
    assert add(folder, "a", "--event", "2023-05-16", "--months", "2") == 0
    text = (folder / "areas" / "a.yaml").read_text()
    assert "pre: null" in text and 'event: "2023-05-16"' in text
    assert str(Workspace(folder).site("a").pre) == "2022-05-16 .. 2022-07-16"
    assert add(folder, "b", "--event", "2023-05-16", "--months", "2", "--season", "around") == 0
    assert str(Workspace(folder).site("b").pre) == "2023-03-16 .. 2023-05-16"


def test_windows_of_two_seasons_are_said_to_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--event", "2023-05-16", "--months", "2", "--season"
    assert add(folder, "a", *words, "around") == 0
    assert "The windows lie 62 days apart in the year" in capsys.readouterr().err
    assert add(folder, "b", *words, "same") == 0
    assert capsys.readouterr().err == ""


def test_a_series_is_one_site_per_two_years(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(folder, "s", "--years", "2018-2021", "--season-end", "08-15") == 0
    names = [Path(line).stem for line in capsys.readouterr().out.split()]
    assert names == ["s-2018-2019", "s-2019-2020", "s-2020-2021"]
    sites = Workspace(folder).sites
    assert str(sites["s-2019-2020"].pre) == "2019-07-01 .. 2019-08-15"
    assert str(sites["s-2019-2020"].post) == "2020-07-01 .. 2020-08-15"
    assert add(folder, "s", "--years", "2020-2022") == ConfigError.exit_code
    assert "s-2020-2021.yaml exists" in capsys.readouterr().err
    # Refused before anything is written.
    assert not (folder / "areas" / "s-2021-2022.yaml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no --pre and --post, no --event, no --years"),
        (["--event", "2023-05-16"], "--event needs --months too"),
        (["--months", "2"], "--months needs --event too"),
        (["--pre", "2020-01-01", "2020-02-01"], "--pre needs --post too"),
        (["--season-start", "07-01"], "--season-start needs --years too"),
        (["--years", "2018"], "--years 2018 are not two years"),
        (["--years", "2018-2019", "--season-start", "7/1"], "--season-start 7/1 is no day"),
        (["--years", "2019-2018"], "A series from 2019 to 2018 holds no change"),
        (
            ["--years", "2018-2019", "--event", "2020-01-01", "--months", "1"],
            "more than one way: --event, --months and --years",
        ),
        (["--event", "2023-05-16", "--months", "2", "--season", "spring"], "season = 'spring'"),
    ],
)
def test_options_that_give_no_windows_are_refused(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(folder, "a", *words) == ConfigError.exit_code
    assert said in capsys.readouterr().err
    assert not list((folder / "areas").glob("*.yaml"))
