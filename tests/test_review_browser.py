"""A reviewer in Chromium: keys, images, a server that dies, decisions in the GeoPackage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inventory_world import make_world, work_out
from review_browser import Server, begin, chromium, find_chromium, press, waits

from inventory.store import Inventory
from thawslump.workspace import Workspace

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium on this machine (install one, or name it in THAWSLUMP_CHROMIUM)",
)

# What the issue asks for is 150 ms on a quiet machine (benchmarks/review_latency.py); tests run
# beside others.
LIMIT_MS = 600

PIXELS = """panel => {
  const image = document.querySelector(`.pair [data-panel="${panel}"] img`);
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return {width: image.naturalWidth, shown: image.getBoundingClientRect().width,
          pixels: Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)};
}"""


@pytest.fixture
def world(tmp_path: Path) -> Workspace:
    workspace = make_world(tmp_path / "world", slumps=20, shape=(240, 300))
    work_out(workspace, "candidates")
    return workspace


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium() as opened:
        yield opened
        assert opened.problems == []


def settle(page: Any) -> None:
    """Wait until the server has acknowledged every decision."""
    page.wait_for_selector("body[data-waiting='0']")


def test_twenty_candidates_with_keys_and_a_server_that_dies(page: Any, world: Workspace) -> None:
    """Keys decide 20 candidates; SIGKILL in between loses none, and the file holds them all."""
    inventory = Inventory(world.inventory)
    names = [c.candidate_id for c in inventory.candidates(1)]
    assert len(names) == 20
    keys = ["a", "r", "Enter", "x", "d"] * 4
    words = {"a": "accept", "Enter": "accept", "r": "reject", "x": "reject", "d": "unsure"}
    with Server(world.root) as server:
        begin(page, server.address)
        seen = []
        for number, key in enumerate(keys):
            seen.append(page.evaluate("document.body.dataset.painted"))
            before, after = page.evaluate(PIXELS, "before"), page.evaluate(PIXELS, "after")
            assert before["width"] > 0 and after["width"] > 0
            assert before["shown"] > 300 and after["shown"] > 300
            assert before["pixels"] != after["pixels"]
            if number == 8:
                # Dead while a decision is on its way: the page keeps it, goes on, sends it later.
                server.kill()
            if number == 10:
                banner = page.locator("#banner")
                banner.wait_for(state="visible")
                assert "kept in this browser" in banner.inner_text()
                server.start()
                settle(page)
                assert len(inventory.decisions()) == 10
            if number < 19:
                press(page, key)
            else:
                page.keyboard.press(key)
        page.wait_for_selector("dialog#done[open]")
        settle(page)
        done = page.locator("#done-words").inner_text()
    assert seen == names, "in the order of review"
    rows = inventory.decisions()
    assert [(r.candidate_id, r.decision) for r in rows] == [
        (name, words[key]) for name, key in zip(names, keys, strict=True)
    ]
    assert {(r.reviewer, r.kind) for r in rows} == {("Ada", "people")}
    assert all(r.seconds is not None and r.seconds >= 0 for r in rows)
    assert inventory.counts(1) == {"accepted": 8, "rejected": 8, "unsure": 4}
    assert len(inventory.slumps()) == 8
    assert inventory.problems() == []
    assert done == "8 accepted, 8 rejected, 4 not sure."
    took = waits(page)[1:]
    assert len(took) >= 19
    print(f"next candidate, 95th percentile: {np.percentile(took, 95):.0f} ms")
    assert np.percentile(took, 95) < LIMIT_MS


def test_moving_undo_outline_blink_and_note(page: Any, world: Workspace) -> None:
    """What the help page says of the keys is what they do."""
    inventory = Inventory(world.inventory)
    names = [c.candidate_id for c in inventory.candidates(1)]
    with Server(world.root) as server:
        begin(page, server.address)

        def here() -> str:
            return page.evaluate("document.body.dataset.painted")

        for key, index in (
            ("n", 1), ("ArrowRight", 2), ("p", 1), ("ArrowLeft", 0), ("a", 1), ("p", 19), ("n", 1)
        ):  # fmt: skip
            press(page, key)
            assert here() == names[index], key
        settle(page)
        press(page, "u")
        assert here() == names[0]
        assert inventory.candidate(names[0]).state == "open"
        outline = page.locator('.pair [data-panel="before"] path.this')
        assert outline.is_visible()
        page.keyboard.press(" ")
        assert not outline.is_visible()
        page.keyboard.press(" ")
        assert outline.is_visible()
        before, after = page.evaluate(PIXELS, "before"), page.evaluate(PIXELS, "after")
        page.keyboard.down("b")
        assert page.evaluate(PIXELS, "after")["pixels"] == before["pixels"]
        page.keyboard.up("b")
        assert page.evaluate(PIXELS, "after")["pixels"] == after["pixels"]
        # A letter typed into the note is no decision.
        page.keyboard.press("t")
        page.keyboard.type("a fresh scar")
        page.keyboard.press("Escape")
        press(page, "r")
        settle(page)
        page.keyboard.press("?")
        assert page.locator("dialog#help").is_visible()
        page.keyboard.press("a")
        page.keyboard.press("Escape")
    rows = inventory.decisions(names[0])
    assert [(r.decision, r.note) for r in rows] == [
        ("accept", None), ("undo", None), ("reject", "a fresh scar")
    ]  # fmt: skip
    assert len(inventory.decisions()) == 3


def test_an_outline_is_corrected_by_drawing(page: Any, world: Workspace) -> None:
    """A loop drawn with the mouse becomes the slump; a key says that it is accepted."""
    inventory = Inventory(world.inventory)
    first = inventory.candidates(1)[0]
    with Server(world.root) as server:
        begin(page, server.address)
        page.keyboard.press("e")
        assert page.locator('.pair [data-panel="after"] circle').count() > 3
        box = page.locator('.pair [data-panel="after"]').bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        angles = np.linspace(0, 2 * np.pi, 49)
        page.mouse.move(x + 0.4 * box["width"], y)
        page.mouse.down()
        for angle in angles[1:]:
            page.mouse.move(
                x + 0.4 * box["width"] * np.cos(angle), y + 0.4 * box["width"] * np.sin(angle)
            )
        page.mouse.up()
        metres = page.evaluate(f"fetch('api/candidates/{first.candidate_id}').then(r => r.json())")
        press(page, "a")
        settle(page)
    made = inventory.standing(first.candidate_id)
    assert made is not None and made.edited
    area = inventory.slumps()["area_m2"].iloc[0]
    assert area == pytest.approx(np.pi * (0.4 * metres["metres"]) ** 2, rel=0.03)
    assert inventory.slumps().geometry.iloc[0].contains(first.geometry.centroid)


def test_what_another_reviewer_decides_shows(page: Any, world: Workspace) -> None:
    """Two reviewers at once: the list follows, and nobody is asked what is decided already."""
    inventory = Inventory(world.inventory)
    names = [c.candidate_id for c in inventory.candidates(1)]
    with Server(world.root) as server:
        begin(page, server.address)
        inventory.decide(names[0], "reject", "Ben")
        inventory.decide(names[1], "accept", "Ben")
        page.wait_for_selector("#queue li:nth-child(2).accepted")
        # The list and the words beside the picture are drawn one after the other.
        page.wait_for_function("document.querySelector('#state').innerText === 'rejected'")
        press(page, "n")
        assert page.evaluate("document.body.dataset.painted") == names[2]
        page.route("**/api/changes*", lambda route: route.abort())
        # Decided by Ben in the seconds before the page knows: Ada is told, and overrules nobody.
        inventory.decide(names[2], "accept", "Ben")
        page.keyboard.press("r")
        page.get_by_text("The candidate is accepted by now").wait_for()
        settle(page)
    assert inventory.candidate(names[2]).state == "accepted"
    assert {d.reviewer for d in inventory.decisions()} == {"Ben"}


def test_closed_before_the_server_came_back_nothing_is_lost(page: Any, world: Workspace) -> None:
    """A decision that was never acknowledged is sent when the page is opened the next time."""
    inventory = Inventory(world.inventory)
    name = inventory.candidates(1)[0].candidate_id
    with Server(world.root) as server:
        begin(page, server.address)
        server.kill()
        page.keyboard.press("a")
        page.wait_for_selector("#banner:not([hidden])")
        assert inventory.decisions() == []
        page.goto("about:blank")
        server.start()
        page.goto(server.address)
        page.wait_for_selector("body[data-painted]")
        settle(page)
    assert inventory.candidate(name).state == "accepted"
    assert len(inventory.decisions()) == 1


def test_made_up_data_and_scripted_decisions_are_called_so(page: Any, world: Workspace) -> None:
    inventory = Inventory(world.inventory)
    first = inventory.candidates(1)[0].candidate_id
    inventory.decide(first, "accept", "scripted", kind="scripted")
    with Server(world.root) as server:
        begin(page, server.address)
        assert page.locator("#made-up").is_visible()
        assert not page.locator("#scripted").is_visible()
        press(page, "ArrowLeft")
        assert page.locator("#scripted").inner_text() == "Scripted decisions"
        assert "accepted by the scripted reviewer" in page.locator("#history").inner_text()
