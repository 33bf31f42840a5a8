"""Commands `review` and `inventory ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thawslump.errors import ConfigError
from thawslump.options import current, workspace

__all__ = ["app", "review"]

app = typer.Typer(no_args_is_help=True)


def review(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Other than this machine: needs --token.")
    ] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="A word that visitors must know.")] = None,
    round: Annotated[int | None, typer.Option(min=1, help="The newest round else.")] = None,
) -> None:
    """The review page in the browser."""
    from inventory.review.app import serve

    place = workspace()

    def ready(address: str) -> None:
        if current.json:
            typer.echo(json.dumps({"event": "ready", "address": address}))
        else:
            typer.echo(f"Review page of {place.root}:\n  {address}\nCtrl-C stops it.")

    serve(place.root, host=host, port=port, token=token, round=round, ready=ready)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Polygons: GeoPackage, GeoJSON, Shapefile.")],
    site: Annotated[str, typer.Option(help="The site or area that they belong to.")],
) -> None:
    """Outlines of known slumps into the inventory."""
    from inventory.work import bring_outlines

    place = workspace()
    site = place.area_of(site)
    entry = place.site(site)
    if entry.outlines is not None:
        raise ConfigError(
            f"Site {site} names its outlines in its file ({entry.outlines}); `thawslump run` "
            "imports those.",
            hint="Change `outlines` in the site's file, or import to an area without them.",
        )
    shapes, changed = bring_outlines(
        place, site, file, bounds=entry.bounds, made_up=entry.made_up, source=file.name
    )
    _say(
        {"outlines": len(shapes), "changed": changed},
        f"{len(shapes)} outlines of {file} lie on {site}; {changed} changed in the inventory.",
    )


@app.command()
def candidates(
    round: Annotated[int, typer.Option(min=1, help="Round of the iteration.")] = 1,
) -> None:
    """Candidate outlines of a round, and every step before them that is not done."""
    from thawslump.options import reporter
    from thawslump.pipeline import run

    place = workspace()
    run(place, until="candidates", until_round=round, reporter=reporter(round))
    from inventory.store import Inventory

    counts = Inventory(place.inventory).counts(round)
    words = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"
    _say({"round": round, "counts": counts}, f"Candidates of round {round}: {words}.")


@app.command()
def stats() -> None:
    """How many slumps, how large, by whom; what each round came to."""
    from inventory.statistics import power_law, summary

    place = workspace()
    lines = summary(place.inventory)
    found: dict[str, Any] = {"summary": lines}
    if place.inventory.exists():
        from inventory.store import Inventory

        inventory = Inventory(place.inventory)
        slumps = inventory.slumps()
        law = power_law(slumps["area_m2"].to_numpy(dtype=float))
        if law is not None:
            found["power_law"] = {"alpha": law[0], "bound_m2": law[1]}
            lines.append(f"sizes: power law with exponent {law[0]:.2f} from {law[1]:.0f} m2 on")
        found["sites"] = {
            str(name): {"slumps": len(part), "area_m2": float(part["area_m2"].sum())}
            for name, part in slumps.groupby("site")
        }
        lines += [
            f"{name}: {part['slumps']} slumps, {part['area_m2'] / 1e4:.1f} ha"
            for name, part in found["sites"].items()
        ]
    _say(found, "\n".join(lines))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Name ends in .geojson, .parquet or .gpkg.")],
) -> None:
    """The slumps as GeoJSON, GeoParquet or GeoPackage."""
    from inventory.work import export_slumps

    number = export_slumps(workspace().inventory, file)
    _say({"slumps": number, "file": str(file)}, f"{number} slumps written to {file}.")


def _say(facts: dict[str, Any], words: str) -> None:
    typer.echo(json.dumps(facts) if current.json else words)
