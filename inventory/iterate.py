"""One round after another, until a round adds nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawslump.pipeline import Driver, Waiting

__all__ = ["ROUND_STEPS", "iterate"]

ROUND_STEPS = (
    "labels",
    "train",
    "ensemble",
    "predict-blocks",
    "predict",
    "candidates",
    "review",
)


def iterate(driver: Driver) -> Waiting | None:
    """Run rounds 1, 2, ... and write what each came to into the layer ``iterations``.

    The rounds end with the first that adds no slump to the inventory, or with
    ``rounds.maximum``; everything that is done already is passed over by the driver.

    Parameters
    ----------
    driver : Driver
        Its ``run_step(name, round)`` brings a step up to date.

    Returns
    -------
    Waiting or None
        What waits for people; None where the rounds are at their end.
    """
    from inventory.store import Inventory

    maximum = driver.workspace.config.rounds.maximum
    for round in range(1, maximum + 1):
        for step in ROUND_STEPS:
            outcome = driver.run_step(step, round)
            if outcome.waiting is not None:
                return outcome.waiting
        inventory = Inventory(driver.workspace.inventory)
        counts = inventory.counts(round)
        if not counts.get("accepted"):
            why = "no candidates were found" if not counts else "no candidate was accepted"
            inventory.record_iteration(round, f"ended: {why}")
            return None
        last = round == maximum
        inventory.record_iteration(
            round, "ended: rounds.maximum was reached" if last else "went on: slumps were added"
        )
    return None
