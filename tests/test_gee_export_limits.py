"""Exports within limits: of memory, of a rate, of a budget; and of what may be believed."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import functools
import io
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from gee_world import World, a_site, make_world
from googleapiclient.errors import HttpError
from httplib2 import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gee_export import Service, _as_client, a_product, a_workspace, truth

from gee.config import ExportConfig
from gee.exports import checkpoint as checkpoints
from gee.exports.coverage import coverage
from gee.exports.faults import Fault, asked_to_wait, classify, patiently
from gee.exports.fetch import STEPS, Checkpoint, Tally, fetch
from gee.exports.meter import LEDGER, Ledger, Meter, profiled, workload_tag
from gee.exports.pace import Pace, TimeLeft
from gee.exports.plan import Tile, cost, tiles
from gee.exports.step import run
from gee.steps import plan_export
from thawslump.cli import main
from thawslump.errors import BackendError, BudgetError, StorageError
from thawslump.workspace import Workspace

PIXELS = 96 * 80  # of `a_product`


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("limits") / "catalog")


class Kept:
    """What one fetch came to."""

    def __init__(self, folder: Path, ask: Callable[..., bytes], **changes: Any) -> None:
        more = {key: changes.pop(key) for key in ("meter", "pace") if key in changes}
        config = ExportConfig(**({"tile": 32, "smallest_tile": 8, "backoff": 0} | changes))
        self.tally, self.told, self.new, self.old = Tally(), [], [], []
        self.array = fetch(
            a_product(),
            Checkpoint(folder, "x" * 16),
            config,
            "the test",
            self.tally,
            self.new.append,
            ask,
            kept=self.old.append,
            tell=self.told.append,
            **more,
        )


def same(array: Any) -> bool:
    return bool(np.array_equal(array, truth(a_product()), equal_nan=True))


# Tiles that are too much ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    largest=st.integers(1, 4000), side=st.integers(16, 64), workers=st.integers(1, 6),
    smallest=st.integers(8, 32),
)  # fmt: skip
def test_a_memory_limit_ends_in_smaller_tiles_or_in_words(
    largest: int, side: int, workers: int, smallest: int
) -> None:
    """For any limit: complete and equal, or refused; few requests in vain, none for the same."""
    service = Service(largest=largest)
    changes = {"tile": side, "workers": workers, "smallest_tile": smallest}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = Kept(Path(folder), service, **changes)
        except BackendError as error:
            assert "User memory limit exceeded" in str(error)
            refused = sum(t.pixels > largest for t in service.asked)
            # Given up where one more step would be below the smallest side, or the fourth.
            assert refused <= (STEPS + 1) * workers
            assert largest < (max(smallest, side / 2**STEPS) + 1) ** 2 * 4
        else:
            assert same(found.array)
            refused = [t for t in service.asked if t.pixels > largest]
            assert found.tally.splits == len(refused) <= STEPS * workers
            assert found.tally.requests == len(service.asked)
            assert sum(found.new) == PIXELS
    assert len(set(service.asked)) == len(service.asked)
    # A step is half the side, a quarter of the area, and there are three of them.
    assert max(t.side for t in service.asked) <= side


def test_one_refusal_teaches_the_rest_of_the_product(tmp_path: Path) -> None:
    service = Service(largest=16 * 16)
    found = Kept(tmp_path, service, workers=1)
    assert same(found.array)
    assert found.tally.splits == 1
    assert [t.side for t in service.asked] == [32] + [16] * 30
    assert found.told == ["tiles of 16 instead of 32: User memory limit exceeded."]


def test_steps_are_three_and_then_it_is_given_up(tmp_path: Path) -> None:
    service = Service(largest=3)
    with pytest.raises(BackendError) as caught:
        Kept(tmp_path, service, tile=80, smallest_tile=8, workers=1)
    assert [t.side for t in service.asked] == [80, 40, 20, 10]
    said = str(caught.value)
    assert "refused a tile of stack (10 x 10 pixels at row 0, column 0)" in said
    assert "after 3 cuts to half the side: User memory limit exceeded." in said
    assert "export.method: drive" in said


def test_what_was_learnt_survives_a_kill(tmp_path: Path) -> None:
    """The second run asks in small tiles at once, and takes the finished ones as they are."""
    first = Service({9: _as_client("Band pattern 'q' did not match.", 400)}, largest=16 * 16)
    with pytest.raises(BackendError, match="Band pattern"):
        Kept(tmp_path, first, workers=1)
    done = [t for n, t in enumerate(first.asked) if n not in (0, 9)]
    second = Service(largest=16 * 16)
    found = Kept(tmp_path, second, workers=1)
    assert same(found.array)
    assert found.tally.splits == 0 and found.tally.kept == len(done) == 8
    assert found.told == ["tiles of 16 instead of 32: User memory limit exceeded."]
    count = np.zeros((96, 80), int)
    for tile in [*done, *second.asked]:
        count[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width] += 1
    assert (count == 1).all()
    assert sum(found.old) + sum(found.new) == PIXELS


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 60), st.integers(16, 60), st.integers(1, 20), st.integers(0, 10**6))
def test_tiles_of_another_size_are_used_as_they_are(
    before: int, after: int, count: int, seed: int
) -> None:
    """`export.tile` was changed between two runs: no pixel is asked for twice."""
    product = a_product()
    whole = truth(product)
    some = tiles((96, 80), before)
    some = random.Random(seed).sample(some, min(count, len(some)))
    with tempfile.TemporaryDirectory() as folder:
        for tile in some:
            rows = slice(tile.row, tile.row + tile.height)
            part = whole[:, rows, tile.col : tile.col + tile.width]
            Checkpoint(Path(folder), "x" * 16).keep(tile, part)
        service = Service()
        found = Kept(Path(folder), service, tile=after)
    assert same(found.array) and found.tally.kept == len(some)
    assert sum(t.pixels for t in [*some, *service.asked]) == PIXELS


@settings(max_examples=80, deadline=None)
@given(*[st.integers(0, 12)] * 4, *[st.integers(1, 12)] * 4)
def test_a_tile_without_another_is_a_partition(
    r0: int, c0: int, r1: int, c1: int, h0: int, w0: int, h1: int, w1: int
) -> None:
    tile, other = Tile(r0, c0, h0, w0), Tile(r1, c1, h1, w1)
    count = np.zeros((30, 30), int)
    for part in tile.without(other):
        count[part.row : part.row + part.height, part.col : part.col + part.width] += 1
    wanted = np.zeros((30, 30), int)
    wanted[r0 : r0 + h0, c0 : c0 + w0] = 1
    wanted[r1 : r1 + h1, c1 : c1 + w1] = 0
    np.testing.assert_array_equal(count, wanted)


def test_a_large_product_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_IN_MEMORY", 0)
    monkeypatch.setattr("gee.exports.fetch._RELEASE", 5000)
    found = Kept(tmp_path, Service())
    assert isinstance(found.array, np.memmap) and same(found.array)


# Answers that hold nothing -------------------------------------------------------------------


class Hollow(Service):
    """Answers some tiles with nothing in them, the first `times` of each."""

    def __init__(self, hollow: set[tuple[int, int]], times: int) -> None:
        super().__init__()
        self.hollow, self.times = hollow, times

    def __call__(self, product: Any, tile: Tile) -> bytes:
        answer = super().__call__(product, tile)
        if (tile.row, tile.col) not in self.hollow or self.asked.count(tile) > self.times:
            return answer
        pixels = np.load(io.BytesIO(answer))
        for name in product.bands:
            pixels[name] = product.fill
        buffer = io.BytesIO()
        np.save(buffer, pixels)
        return buffer.getvalue()


def test_an_answer_without_content_is_not_believed_at_once(tmp_path: Path) -> None:
    service = Hollow({(32, 32)}, times=1)
    found = Kept(tmp_path, service)
    assert same(found.array)
    assert (found.tally.asked_twice, found.tally.retries) == (1, 1)


def test_a_tile_that_is_empty_is_kept_after_two_answers(tmp_path: Path) -> None:
    service = Hollow({(32, 32)}, times=99)
    found = Kept(tmp_path, service)
    assert np.isnan(found.array[:, 32:64, 32:64]).all() and not np.isnan(found.array[:, :32]).any()
    assert found.tally.asked_twice == 1 and found.tally.requests == 10
    again = Service()
    Kept(tmp_path, again)
    assert again.asked == []


def test_empty_tiles_are_counted_and_holes_are_named() -> None:
    array = np.zeros((2, 600, 1100), "float32")
    array[0, 256:512, 512:768] = np.nan  # one tile of one band, its neighbours whole
    array[:, :128, :] = np.nan
    seen = coverage(array, float("nan"), ("a", "b"))
    assert seen.holes() == [] and seen.empty() == []  # the tile above is half empty
    array[:, :128, :] = 0
    array[1, :, 1024:] = np.nan  # a whole column at the edge: nothing beside it but its like
    seen = coverage(array, float("nan"), ("a", "b"))
    assert seen.holes() == [(1, 2, "a")]
    facts = seen.facts()
    assert (facts["side"], facts["count"]) == (256, 15)
    assert facts["nodata"] == {"min": 0.0, "median": 0.0, "max": 0.5}
    assert facts["suspicious"] == [{"row": 1, "col": 2, "band": "a"}]
    assert {(t["row"], t["col"]) for t in facts["emptiest"]} == {(0, 4), (1, 2), (1, 4), (2, 4)}
    whole = np.full((1, 300, 300), 65535, "uint16")
    assert coverage(whole, 65535, ("a",)).empty() == ["a"]
    np.testing.assert_allclose(seen.shares[1].mean() * 15, np.isnan(array[1]).mean() * 15, atol=2)


# A rate that is too much ---------------------------------------------------------------------


class Jammed(Service):
    """Answers so many at a time, and refuses the others for the rate."""

    def __init__(self, slots: int, seconds: float = 0.002) -> None:
        super().__init__()
        self.slots, self.seconds = slots, seconds
        self.busy = self.refused = 0

    def __call__(self, product: Any, tile: Tile) -> bytes:
        with self.lock:
            free = self.busy < self.slots
            self.busy += free
            self.refused += not free
        if not free:
            raise _as_client("Too Many Requests: Request was rejected because ...", 429)
        try:
            time.sleep(self.seconds)
            return super().__call__(product, tile)
        finally:
            with self.lock:
                self.busy -= 1


def test_a_rate_that_is_refused_is_lowered(tmp_path: Path) -> None:
    service, pace = Jammed(slots=3), Pace(16)
    found = Kept(tmp_path, service, tile=16, workers=16, retries=12, backoff=0.001, pace=pace)
    assert same(found.array)
    assert pace.fewest <= 3
    # Sixteen threads that come back by themselves are refused over and over.
    rude = Jammed(slots=3)
    Kept(tmp_path / "rude", rude, tile=16, workers=16, retries=20, backoff=0.001,
         pace=Rude(16))  # fmt: skip
    assert service.refused < rude.refused


class Rude(Pace):
    def slower(self, begun: float) -> None:
        pass


def test_slots_halve_once_for_a_jam_and_come_back() -> None:
    now = [0.0]
    pace = Pace(16, lambda: now[0])
    with contextlib.ExitStack() as stack:
        begun = [stack.enter_context(pace.slot()) for _ in range(16)]
        now[0] = 1.0
        for moment in begun:
            pace.slower(moment)  # refused together: halved once
    assert (pace.allowed, pace.fewest) == (8, 8)
    now[0] = 2.0
    with pace.slot() as moment:
        pace.slower(moment)
    assert pace.allowed == 4
    for _ in range(4 + 5 + 6):
        pace.answered()
    assert pace.allowed in (6, 7)  # one more for as many answers as there are slots
    for _ in range(1000):
        pace.answered()
    assert pace.allowed == 16
    for _ in range(9):
        now[0] += 1
        with pace.slot() as moment:
            pace.slower(moment)
    assert pace.allowed == 1  # never none


def _refused(headers: dict[str, str]) -> ee.EEException:
    try:
        try:
            raise HttpError(Response({"status": "429", **headers}), b"{}")
        except HttpError:
            raise ee.EEException("Too Many Requests")  # noqa: B904
    except ee.EEException as error:
        return error


def test_the_service_says_how_long_to_wait() -> None:
    assert asked_to_wait(_refused({"retry-after": "7"})) == 7
    assert asked_to_wait(_refused({})) is None
    assert asked_to_wait(_refused({"retry-after": "soon"})) is None
    assert asked_to_wait(_refused({"retry-after": "86400"})) == 600
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=40)
    waits = asked_to_wait(_refused({"retry-after": email.utils.format_datetime(later)}))
    assert waits is not None and 30 < waits <= 40
    rests: list[float] = []

    def ask() -> str:
        if len(rests) < 2:
            raise _refused({"retry-after": "7"} if not rests else {})
        return "an answer"

    assert patiently(ask, where="x", retries=3, backoff=0.5, sleep=rests.append) == "an answer"
    assert rests[0] == 7 and 0.5 <= rests[1] <= 1


def test_a_daily_limit_that_an_owner_set_is_no_jam() -> None:
    words = (
        "Your usage exceeded the custom quota for 'earthengine.googleapis.com/"
        "daily_eecu_usage_time', which is adjustable by your administrator in the Google Cloud "
        "console: https://console.cloud.google.com/quotas/?project=_."
    )
    assert classify(_as_client(words, 429)) is Fault.SPENT


def test_time_left_leaves_out_what_was_there() -> None:
    now = [0.0]
    left = TimeLeft(100, lambda: now[0])
    left.done(50, kept=True)
    assert left.seconds() is None and left.words() == ""
    now[0] = 60.0
    left.done(10)
    assert left.seconds() == 240 and left.words() == "about 4 min left"


# Budgets -------------------------------------------------------------------------------------


class Priced:
    """A service with a price for each tile, told through the client's profiler."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, price: Callable[[Tile], float]) -> None:
        self.price, self.here = price, threading.local()
        self.costs: dict[str, float] = {}
        self.service = Service()
        self.seconds: Callable[[], float] = lambda: 0.0
        monkeypatch.setattr(ee.data, "profiling", self.profiling)

    @contextlib.contextmanager
    def profiling(self, hook: Callable[[str], None]) -> Iterator[None]:
        self.here.hook = hook
        try:
            yield
        finally:
            self.here.hook = None

    def __call__(self, product: Any, tile: Tile) -> bytes:
        time.sleep(self.seconds())
        answer = self.service(product, tile)
        name = f"{tile.row}/{tile.col}"
        self.costs[name] = self.price(tile)
        self.here.hook(name)
        return answer

    def of(self, ids: list[str]) -> float:
        return sum(self.costs[name] for name in ids)

    def total(self) -> float:
        return sum(self.costs.values())


class Watched(Meter):
    """Notes when requests came to the gate, and when they had ended with which cost."""

    def __init__(self, *args: Any, price: Callable[[str], float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.price = price
        self.came: list[float] = []
        self.ended_at: list[tuple[float, float]] = []

    def _begin(self, pixels: int) -> float:
        came = time.perf_counter()
        expected = super()._begin(pixels)
        self.came.append(came)
        return expected

    def _end(self, pixels: int, expected: float, ids: list[str], failed: Any) -> None:
        super()._end(pixels, expected, ids, failed)
        self.ended_at.append((time.perf_counter(), sum(map(self.price, ids))))


@pytest.mark.parametrize("seed", range(6))
def test_a_budget_is_overshot_by_no_more_than_what_is_under_way(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices with outliers that nothing foretells, answers after any time."""
    dice = random.Random(seed)
    prices = {t: dice.lognormvariate(0, 1.2) for t in tiles((96, 80), 16)}
    priced = Priced(monkeypatch, prices.__getitem__)
    priced.seconds = lambda: dice.uniform(0, 0.004)
    budget = sum(prices.values()) * dice.uniform(0.2, 0.8)
    ledger = Ledger(tmp_path / LEDGER)
    workers = 6
    meter = Watched(ledger, "x", budget, 0.001, cost_of=priced.of, price=priced.costs.__getitem__)
    with pytest.raises(BudgetError, match=r"(?s)budget of .* is used up.*Finished tiles are kept"):
        Kept(tmp_path, priced, tile=16, workers=workers, meter=meter)
    spent, reached = 0.0, 0.0
    for moment, cost_ in sorted(meter.ended_at):
        if spent >= budget:
            break
        spent, reached = spent + cost_, moment
    assert all(moment <= reached for moment in meter.came)
    under_way = [cost_ for moment, cost_ in meter.ended_at if moment > reached]
    assert len(under_way) < workers
    assert priced.total() == pytest.approx(spent + sum(under_way))
    assert budget <= ledger.total() == pytest.approx(priced.total()) == meter.measured
    ledger.close()


def test_a_budget_that_is_raised_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    priced = Priced(monkeypatch, lambda tile: 1.0)
    ledger = Ledger(tmp_path / LEDGER)

    def meter(budget: float) -> Meter:
        return Meter(ledger, "place/stack", budget, 1 / 256, cost_of=priced.of)

    with pytest.raises(BudgetError, match=r"budget of 12 .* have cost 12\.\n") as caught:
        Kept(tmp_path, priced, tile=16, workers=4, meter=meter(12))
    assert caught.value.exit_code == 7
    # Towards the end fewer were under way: equal prices are not overshot at all.
    assert priced.total() == 12
    with pytest.raises(BudgetError):
        Kept(tmp_path, priced, tile=16, workers=4, meter=meter(12))
    assert priced.total() == 12
    found = Kept(tmp_path, priced, tile=16, workers=4, meter=meter(100))
    assert same(found.array) and found.tally.kept == 12 and priced.total() == 30
    ledger.close()


def test_a_service_that_tells_no_cost_is_counted_by_assumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = Priced(monkeypatch, lambda tile: 1.0)
    asked: list[int] = []

    def lost(ids: list[str]) -> float:
        asked.append(len(ids))
        raise ee.EEException("Profile not found.")

    for name, ask, cost_of in (("off", False, priced.of), ("lost", True, lost)):
        ledger = Ledger(tmp_path / name / LEDGER)
        meter = Meter(ledger, "x", 1e9, 0.5, ask=ask, cost_of=cost_of, patience=0)
        service = priced if ask else priced.service
        found = Kept(tmp_path / name, service, tile=16, workers=2, meter=meter)
        assert same(found.array)
        assert meter.measured == 0 and meter.assumed == pytest.approx(PIXELS * 0.5)
        assert ledger.rows() == [("x", 0.0, pytest.approx(PIXELS * 0.5))]
        ledger.close()
    # After some in vain no more are asked for.
    assert len(asked) == 12


def test_requests_that_fail_may_have_cost_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = Priced(monkeypatch, lambda tile: 1.0)
    meter = Meter(Ledger(tmp_path / LEDGER), "x", None, 0.5, cost_of=priced.of)

    def failing(error: Exception) -> None:
        with pytest.raises(type(error)), meter.request(10):
            raise error

    failing(_as_client("Too Many Requests", 429))
    failing(_as_client("Band pattern", 400))
    assert meter.assumed == 0
    failing(_as_client("User memory limit exceeded.", 400))
    failing(ConnectionError("reset"))
    assert meter.assumed == 10
    meter.ledger.close()


def test_two_meters_of_one_ledger_share_a_budget(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    first = Meter(Ledger(path), "a", 10.0, 1.0, ask=False)
    second = Meter(Ledger(path), "b", 10.0, 1.0, ask=False)
    with first.request(6):
        pass
    with second.request(5):
        pass
    with pytest.raises(BudgetError, match="have cost 11"), first.request(1):
        raise AssertionError("not reached")
    for meter in (first, second):
        meter.ledger.close()


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    path.write_bytes(b"no database at all" * 100)
    ledger = Ledger(path)
    with pytest.raises(StorageError, match=r"(?s)eecu\.sqlite.*cannot be used: .*remove it"):
        ledger.rows()
    ledger.close()


def test_tags_are_such_as_the_client_takes() -> None:
    from ee._state import EEState

    for name in ("place", "Qilian.Shan", "-ä-", "x" * 90, "a_b-"):
        tag = workload_tag(name, "0123456789abcdef")
        assert EEState().workload_tag.validate(tag) == tag and len(tag) <= 63


# The whole export ----------------------------------------------------------------------------


def test_an_export_meets_its_budget_and_goes_on(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the emulator: its profiles counted, stopped with a code, continued to the same bytes."""
    # A second for each request: what this machine needs varies.
    priced = functools.partial(Meter, cost_of=lambda ids: float(len(ids)))
    monkeypatch.setattr("gee.exports.step.Meter", priced)
    plain = {"tile": 24, "workers": 3}
    whole = a_workspace(tmp_path / "whole", made.folder, export=plain)
    (item,) = plan_export(whole, 0)
    facts = run(item, whole, lambda share, words: None)
    assert (facts["eecu_seconds"], facts["eecu_seconds_assumed"]) == (facts["requests"], 0)
    budget = float(facts["survey_requests"]) + 5
    folder = tmp_path / "work"
    work = a_workspace(folder, made.folder, export={**plain, "eecu_budget": budget},
                       executor={"kind": "serial"})  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(folder), "export", "run"])
    assert ended.value.code == 7
    assert not work.stack("place").exists()
    kept = len(list(work.tiles("place").rglob("*.npy")))
    work = a_workspace(folder, made.folder, export={**plain, "eecu_budget": 1e6})
    said: list[str] = []
    again = run(item, work, lambda share, words: said.append(words))
    # Five tiles, and those that were under way besides: there are three threads.
    assert again["tiles_kept"] == kept and 5 <= kept < 5 + 3
    assert work.stack("place").read_bytes() == whole.stack("place").read_bytes()
    assert any("EECU-seconds" in words and "left" in words for words in said)


def test_the_meter_agrees_with_the_server(made: World, tmp_path: Path, capsys: Any) -> None:
    import urllib.request

    from gee.emulator.server import running

    with running(made.folder, state=tmp_path / "state") as url:
        work = a_workspace(tmp_path / "work", None, backend={"url": url}, export={"tile": 24})
        (item,) = plan_export(work, 0)
        facts = run(item, work, lambda share, words: None)
        time.sleep(1.1)
        with urllib.request.urlopen(f"{url}/status") as answer:
            (project,) = json.load(answer)["eecu"].values()
    (tag,) = project["tags"]
    assert tag.startswith("thawslump-place-")
    # The server counts the reading of profiles too.
    assert facts["eecu_seconds"] == pytest.approx(project["tags"][tag], rel=0.2, abs=0.02)
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path / "work"), "export", "cost"])
    shown = capsys.readouterr().out
    assert "place/stack: " in shown and "together " in shown
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path / "work"), "--json", "export", "cost", "--reset"])
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 4
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path / "work"), "export", "cost"])
    assert "together 0 EECU-seconds" in capsys.readouterr().out


def test_profiles_are_read_as_the_service_prints_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of Google's guide, with its unit, its dashes and its memory."""
    text = (
        " EECU·s PeakMem  Count  Description\n"
        "  0.060    536k      2  Algorithm Image.load\n"
        "  1.5e-2     -       4  Loading assets: LANDSAT/LC08\n"
        " 12          -       1  (plumbing)\n"
    )

    class Answer:
        def getInfo(self) -> str:
            return text

    class Function:
        def call(self, ids: list[str]) -> Answer:
            assert ids == ["a", "b"]
            return Answer()

    monkeypatch.setattr(ee.ApiFunction, "lookup", lambda name: Function())
    assert profiled(["a", "b"]) == pytest.approx(12.075)


def test_the_item_says_how_much_of_the_tiles_is_empty(made: World, tmp_path: Path) -> None:
    work = a_workspace(tmp_path / "work", made.folder)
    run(plan_export(work, 0)[0], work, lambda share, words: None)
    found = json.loads(work.item("place").read_text())["properties"]["thawslump:tiles"]
    assert set(found) == {"stack", "context", "factors"}
    from thawslump.raster import read_float

    share = np.isnan(read_float(work.stack("place")).array).mean()
    assert found["stack"]["nodata"]["max"] == pytest.approx(share, abs=1e-4)
    assert (found["stack"]["count"], found["stack"]["suspicious_count"]) == (1, 0)


# Plans ---------------------------------------------------------------------------------------


def test_the_cost_grows_with_images_pixels_and_bands() -> None:
    site = a_site()

    def of(name: str, bands: tuple[str, ...], images: int = 4, rows: int = 100) -> float:
        counts = {(key, side): images for key in ("s1", "s2") for side in ("pre", "post")}
        return cost(site, name, (rows, 100), bands, counts, 256, 4 * len(bands)).eecu_seconds

    stack = ("preVV", "postVV", "dNDVI", "slope")
    assert of("stack", stack) == pytest.approx(2 * of("stack", stack, rows=50))
    assert of("stack", stack, images=8) > 1.3 * of("stack", stack)
    assert of("stack", ("dNDVI",)) == pytest.approx(0.2 * 0.01 * 8 * 4)
    assert of("factors", ("elevation",)) == pytest.approx(0.2 * 0.01 * 9)
    assert of("factors", ("NDVI",)) == pytest.approx(0.2 * 0.01 * 4 * 4)
    embedding = tuple(f"A{n:02d}" for n in range(64))
    assert of("factors", embedding) == pytest.approx(0.2 * 0.01 * 64)
    flat = a_site(slope_correction="none")
    counts = {("s1", "pre"): 4}
    plain = cost(flat, "stack", (100, 100), ("preVV",), counts, 256, 4)
    assert plain.reads == {"Sentinel-1": pytest.approx(0.01 * 4 * 2)}
    assert plain.seconds(8) == pytest.approx(1 + plain.eecu_seconds)


def test_plans_warn_of_a_budget_that_will_not_last(
    made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_workspace(tmp_path / "work", made.folder, export={"eecu_budget": 1e-6})
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path / "work"), "export", "plan"])
    shown = capsys.readouterr().out
    assert "of the budget of 1e-06 EECU-seconds are spent" in shown
    assert "Warning: the budget may not last" in shown
    assert "most of it for" in shown and "requests at a time" in shown
    assert isinstance(Workspace(tmp_path / "work").config.export.eecu_budget, float)
