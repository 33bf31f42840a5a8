"""What a reader should hold against the numbers of a workspace, each statement from a number."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from thawslump.provenance import landcovers
from thawslump.results import Model, Results, Score
from thawslump.susceptibility_results import outside

if TYPE_CHECKING:
    from thawslump.evaluation import Bands
    from thawslump.grid import Bounds
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["caveats", "ends", "fixed", "is_made_up", "plural"]


def fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def ends(score: Score | None) -> str:
    """Return an interval as words, nothing where it is not known."""
    if score is None or score.low is None or score.high is None:
        return ""
    return f"{fixed(score.low, 2)} to {fixed(score.high, 2)}"


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def is_made_up(workspace: Workspace) -> bool:
    return bool(workspace.config.made_up) or any(s.made_up for s in workspace.declared.values())


def caveats(workspace: Workspace, results: Results, bands: Bands) -> list[str]:
    """Return what a reader should hold against the numbers, each from a number."""
    said: list[str] = []
    if is_made_up(workspace):
        said.append(
            "The data are made up. The numbers tell how the chain works, nothing about a real "
            "landscape."
        )
    scripted = results.kinds.get("scripted", 0)
    if scripted:
        said.append(
            f"{plural(scripted, 'decision was', 'decisions were')} made by a scripted reviewer "
            "that knows the truth and errs on purpose, not by people: the effort and the "
            "agreement of real reviewers are not measured."
        )
    said += _careful_of_scores(results)
    ensemble = results.ensemble
    for split, rule in bands.rule_splits.items():
        own = ensemble.f1(split) if ensemble else None
        if own is not None and own <= rule.f1.value:
            how = "beats" if rule.f1.value - own > 0.02 else "does as well as"
            said.append(
                f"On the {split} part one threshold on {bands.rule_band} (F1 {rule.f1.value:.2f}) "
                f"{how} the ensemble ({own:.2f})."
            )
    said += _careful_of_susceptibility(workspace, results)
    said += _careful_of_bands(bands)
    said += _careful_of_classes(workspace, results)
    said += _careful_of_landcover(workspace)
    said += _careful_of_seasons(workspace)
    said += _careful_of_places(workspace, results)
    open_ = sum(r.open for r in results.rounds)
    if open_:
        proposed = sum(r.proposed for r in results.rounds)
        said.append(
            f"Of {plural(proposed, 'candidate')} {open_} still wait for a decision; the "
            "inventory is not complete."
        )
    failed = [cost for cost in results.cost if cost.failed]
    for cost in failed:
        said.append(
            f"{plural(cost.failed, 'item')} of the step {cost.step} failed and "
            "are missing from everything on this page."
        )
    return said


def _careful_of_seasons(workspace: Workspace) -> list[str]:
    from thawslump.windows import MONTH, out_of_season

    said = []
    for name, site in workspace.declared.items():
        if site.pre is None or site.post is None:
            continue
        days = out_of_season(site.pre, site.post)
        if days > MONTH:
            said.append(
                f"The windows of {name} ({site.pre} and {site.post}) lie {days} days apart in the "
                "year: part of the change there is the season's."
            )
    return said


def _careful_of_scores(results: Results) -> list[str]:
    said: list[str] = []
    ensemble = results.ensemble
    if ensemble is None:
        return said
    validation, test = ensemble.splits.get("validation"), ensemble.splits.get("test")
    if validation and test:
        gap = validation.f1.value - test.f1.value
        if gap > 0.05:
            said.append(
                f"The ensemble's F1 falls from {validation.f1.value:.2f} on validation, where its "
                f"members and threshold were chosen, to {test.f1.value:.2f} on the test part. "
                "The lower one is the one to quote."
            )
    for split in ("test", "validation"):
        own = ensemble.splits.get(split)
        if own is None:
            continue
        values = [v for run in results.runs_of(ensemble.round)
                  if run.name in ensemble.members and (v := run.f1(split)) is not None]  # fmt: skip
        if values and own.f1.value <= max(values):
            said.append(
                f"On the {split} part a single member (F1 {max(values):.2f}) is as good as the "
                f"ensemble ({own.f1.value:.2f}); which member that would be is known only "
                "afterwards."
            )
        if values and own.f1.value <= sum(values) / len(values):
            said.append(
                f"On the {split} part the ensemble (F1 {own.f1.value:.2f}) does not beat the mean "
                f"of its members ({sum(values) / len(values):.2f})."
            )
        blocks = _blocks(ensemble, split)
        if blocks is not None and blocks < 5:
            said.append(
                f"The interval of the ensemble's F1 on the {split} part stands on "
                f"{plural(blocks, 'block')} of ground: too few for one."
            )
        elif own.f1.low is not None and own.f1.high is not None:
            width = own.f1.high - own.f1.low
            if width > 0.15:
                said.append(
                    f"The interval of the ensemble's F1 on the {split} part is wide "
                    f"({ends(own.f1)}): few independent places stand behind it."
                )
        if own.bias is not None and not 0.8 <= own.bias <= 1.25:
            said.append(
                f"On the {split} part the ensemble outlines {own.bias:.1f} times the area there is."
            )
    idle = [
        run for run in results.runs_of(ensemble.round)
        if run.name in ensemble.members and (run.f1("validation") or 0.0) < 0.05
    ]  # fmt: skip
    if idle:
        said.append(
            f"{len(idle)} of the {len(ensemble.members)} members learnt nothing (F1 below 0.05 on "
            f"validation): {', '.join(run.name for run in idle)}."
        )
    if len(results.ensembles) > 1:
        first, last = results.ensembles[0], results.ensembles[-1]
        pairs = {split: (first.f1(split), last.f1(split)) for split in ("test", "validation")}
        for split, (before, after) in pairs.items():
            if before is None or after is None:
                continue
            if after <= before:
                said.append(
                    f"More rounds did not make the model better: F1 on the {split} part was "
                    f"{before:.3f} in round {first.round} and {after:.3f} in round {last.round}."
                )
            # The test part decides where there is one.
            break
    return said


def _blocks(model: Model, split: str) -> int | None:
    """Return how many blocks of ground stand behind an interval, where the file says so."""
    ends = model.facts.get(split, {}).get("f1_interval", {})
    count = ends.get("blocks") if isinstance(ends, dict) else None
    return count if isinstance(count, int) else None


def _careful_of_susceptibility(workspace: Workspace, results: Results) -> list[str]:
    said = []
    flattered = [model for model in results.susceptibility if model.gap.value > 0.02]
    if len(flattered) == 1:
        (model,) = flattered
        said.append(
            f"Random folds flatter the susceptibility model “{model.name}” by "
            f"{model.gap.value:.2f} AUC ({model.random.value:.2f} against "
            f"{model.spatial.value:.2f} over spatial folds). "
            "The spatial one is the one to quote."
        )
    elif flattered:
        listed = ", ".join(
            f"{model.name} by {model.gap.value:.2f} ({model.random.value:.2f} against "
            f"{model.spatial.value:.2f})"
            for model in sorted(flattered, key=lambda model: -model.gap.value)
        )
        said.append(
            f"Random folds flatter {len(flattered)} of {len(results.susceptibility)} "
            f"susceptibility models, in AUC over random against spatial folds: {listed}. "
            "The spatial ones are those to quote."
        )
    for model in results.susceptibility:
        ndvi = model.without.get("NDVI")
        real = model.spatial.low is None or model.spatial.low > 0.5
        if real and ndvi is not None and model.spatial.value - ndvi > 0.02:
            said.append(
                f"Without NDVI the susceptibility model “{model.name}” falls from AUC "
                f"{model.spatial.value:.2f} to {ndvi:.2f} over spatial folds: slumps that were "
                "there already changed the vegetation, so part of the score may be recognition, "
                "not prediction."
            )
        if not real:
            said.append(
                f"Over spatial folds the susceptibility model “{model.name}” cannot be told from "
                f"chance (AUC {model.spatial.value:.2f}, interval {ends(model.spatial)})."
            )
    return said + _careful_of_the_map(workspace, results)


def _careful_of_the_map(workspace: Workspace, results: Results) -> list[str]:
    """Say what of the susceptibility map rests on little."""
    said = []
    facts = results.susceptibility_facts
    alike = [str(name) for name in facts.get("not_told_apart_from_best", [])]
    if alike:
        said.append(
            f"Over spatial folds “{facts.get('best')}” is the best susceptibility model, but "
            f"{', '.join(f'“{name}”' for name in alike)} cannot be told from it: another draw of "
            "ground might have chosen otherwise."
        )
    blocks = facts.get("n_blocks")
    if isinstance(blocks, int) and blocks < 10:
        said.append(
            f"The samples of susceptibility lie in {plural(blocks, 'block')} of ground: too few "
            "for its intervals to be trusted."
        )
    used, asked = facts.get("block_size_m"), facts.get("block_size_asked_m")
    if used is not None and asked is not None and used < asked:
        said.append(
            f"Blocks of {asked:g} m would have held all slumps in one: the spatial folds of "
            f"susceptibility have blocks of {used:g} m, which keep neighbours less apart."
        )
    counted: dict[str, tuple[int, int]] = {}
    for site, (count, cells) in outside(facts).items():
        place = _place(workspace, site)
        before = counted.get(place, (0, 0))
        counted[place] = (before[0] + count, before[1] + cells)
    strange = {place: n / cells for place, (n, cells) in counted.items() if n / cells >= 0.005}
    if strange:
        listed = ", ".join(
            f"{_share(share)} of {place}"
            for place, share in sorted(strange.items(), key=lambda pair: (-pair[1], pair[0]))
        )
        said.append(
            "Mapped ground that is unlike anything the susceptibility model learned from, hatched "
            f"on its map: {listed}. Scores say nothing about it."
        )
    fewer = dict(facts.get("classes", {})).get("fewer_than_asked")
    if fewer:
        said.append(str(fewer))
    return said


def _careful_of_bands(bands: Bands) -> list[str]:
    said = []
    radar = [row for row in bands.rows if row.origin == "S1" and row.name.startswith("d")]
    weak = [row for row in radar if row.auc.value < 0.6]
    listed = ", ".join(f"{row.name} {row.auc.value:.2f}" for row in weak)
    if weak and len(weak) == len(radar):
        much = "next to no" if all(row.auc.value < 0.55 for row in weak) else "little"
        said.append(
            f"Sentinel-1 change carries {much} signal here: AUC per pixel {listed}; 0.5 is none."
        )
    elif weak:
        said.append(f"By itself this radar band says little: AUC per pixel {listed}; 0.5 is none.")
    for row in bands.rows:
        if row.valid < 0.9:
            said.append(
                f"The band {row.name} is missing on {1 - row.valid:.0%} of the looked-at pixels; "
                "the models see its training mean there."
            )
    by_sites: dict[tuple[str, ...], list[str]] = {}
    for band, sites in bands.absent.items():
        by_sites.setdefault(tuple(sites), []).append(band)
    for where, names in by_sites.items():
        verb = "is" if len(names) == 1 else "are"
        said.append(
            f"{', '.join(names)} {verb} absent in {', '.join(where)}: the sources there do not "
            "give them, and nothing was put in their place."
        )
    return said


def _careful_of_classes(workspace: Workspace, results: Results) -> list[str]:
    """Say where models met classes that no training site has."""
    worst: dict[tuple[str, str], float] = {}
    last = results.ensemble.round if results.ensemble else results.round
    for run in results.runs_of(last):
        if not results.ensemble or run.name in results.ensemble.members:
            for site, shares in dict(run.facts.get("unseen_classes", {})).items():
                for band, share in shares.items():
                    key = _place(workspace, site), band
                    worst[key] = max(worst.get(key, 0.0), float(share))
    for name in workspace.sites:
        for band, share in _unseen_in_map(workspace, last, name).items():
            key = _place(workspace, name), band
            worst[key] = max(worst.get(key, 0.0), share)
    said = [
        f"On {_share(share)} of the pixels of {site} the band {band} holds a class that no "
        "training site has; the models see its training mean there."
        for (site, band), share in sorted(worst.items())
    ]
    cells: dict[str, dict[str, int]] = {}
    told = results.susceptibility_facts.get("cells_with_unseen_classes", {})
    for site, factors in dict(told).items():
        of_area = cells.setdefault(_place(workspace, site), {})
        for factor, count in factors.items():
            of_area[factor] = of_area.get(factor, 0) + int(count)
    said += [
        f"{plural(count, 'cell')} of {site} {'has' if count == 1 else 'have'} a class of {factor} "
        "that the susceptibility models never learned from; it counts as missing there."
        for site, factors in sorted(cells.items())
        for factor, count in factors.items()
    ]
    return said


def _place(workspace: Workspace, name: str) -> str:
    """Return the area that a part belongs to: a line for each part would bury the others."""
    return workspace.area_of(name) if name in workspace.sites else name


def _share(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")


def _unseen_in_map(workspace: Workspace, round: int, site: str) -> dict[str, float]:
    """Return what the map of a site says in its tag, by band."""
    from thawslump import raster

    path = workspace.maps(round) / f"{site}.tif"
    if not path.exists():
        return {}
    with raster.open_raster(path) as source:
        found = json.loads(source.tags().get("unseen_classes", "{}"))
    return {str(band): float(share) for band, share in found.items()}


def _careful_of_landcover(workspace: Workspace) -> list[str]:
    """Say where the land cover of a site is poor, or looks better than it is."""
    said = []
    for cover in landcovers(workspace):
        grouped = cover.grouped.overall if cover.grouped else None
        chance = cover.random.overall if cover.random else None
        if grouped is None:
            said.append(f"How right the land cover of {cover.site} is, is not known.")
            continue
        if grouped < 0.7:
            said.append(
                f"The land cover of {cover.site} is wrong on {1 - grouped:.0%} of the points of "
                "folds that keep neighbours together.".replace("%", " %")
            )
        if chance is not None and chance - grouped > 0.05:
            said.append(
                f"Random folds flatter the land cover of {cover.site}: accuracy {chance:.2f} "
                f"against {grouped:.2f} over folds that keep neighbours together."
            )
    return said


def _careful_of_places(workspace: Workspace, results: Results) -> list[str]:
    """Say where the held-out part lies next to what was learnt from."""
    said = []
    tests = [s for s in workspace.declared.values() if s.role == "test"]
    learnt = [s for s in workspace.declared.values() if s.role in ("train", "area")]
    for test in tests:
        over = [other for other in learnt if _overlap(test, other)]
        for other in over:
            later = (
                "; places decided there join the training from round 2 on, so that later scores "
                "on it are not held out"
                if other.role == "area"
                else ": its scores are not held out"
            )
            said.append(f"The test site {test.name} overlaps {other.name}{later}.")
        near = [(_distance_km(test, other), other.name) for other in learnt if other not in over]
        if near and min(near)[0] < 5.0:
            distance, name = min(near)
            where = "borders" if distance < 0.05 else f"lies {distance:.1f} km from"
            said.append(
                f"The test site {test.name} {where} {name}, from which the models learn: it is the "
                "same landscape, season and sensor, so scores elsewhere will be lower."
            )
    if results.ensemble and not any("test" in m.splits for m in results.ensembles):
        said.append(
            "There is no test site with labels: no score on this page is from ground that "
            "was kept out of every choice."
        )
    return said


def _overlap(left: Site, right: Site) -> bool:
    """Return whether the boxes of two sites share more than a hundredth of the smaller one."""
    a, b = _near(left, right)
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(
        0.0, min(a[3], b[3]) - max(a[1], b[1])
    )
    smaller = min((s[2] - s[0]) * (s[3] - s[1]) for s in (a, b))
    return shared > 0.01 * smaller


def _near(left: Site, right: Site) -> tuple[Bounds, Bounds]:
    """Return the boxes of two sites, counted so that those near each other are, at 180 too."""
    from thawslump.grid import unwrapped  # brings numpy along

    a, b = unwrapped(left.bounds), unwrapped(right.bounds)
    turns = 360.0 * round((a[0] + a[2] - b[0] - b[2]) / 720.0)
    return a, (b[0] + turns, b[1], b[2] + turns, b[3])


def _distance_km(left: Site, right: Site) -> float:
    """Return the distance between the boxes of two sites, on a sphere."""
    a, b = _near(left, right)
    x = max(a[0] - b[2], b[0] - a[2], 0.0)
    y = max(a[1] - b[3], b[1] - a[3], 0.0)
    latitude = math.radians((a[1] + a[3] + b[1] + b[3]) / 4)
    return math.hypot(x * math.cos(latitude), y) * 111.2
