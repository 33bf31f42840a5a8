"""Commands of `thawslump tiles`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawslump import options

if TYPE_CHECKING:
    from thawslump.tiles import Source

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Own rasters and outlines as tiles.")

_SPEC = "NAME=FILE[:BAND]"


@app.callback()
def _tiles() -> None:
    """Own rasters and outlines as tiles."""


def _parse(words: list[str], option: str) -> dict[str, Source]:
    """Read NAME=FILE[:BAND] words; BAND is a number or a description."""
    from thawslump.errors import ConfigError
    from thawslump.tiles import Source

    found: dict[str, Source] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        if not equals or not name or not rest:
            raise ConfigError(
                f'{option} "{word}": {_SPEC} was expected.',
                hint=f"For example: {option} dNDVI=change.tif:1",
            )
        if name in found:
            raise ConfigError(f'{option}: "{name}" is given twice.', hint="Give each band once.")
        path, colon, band = rest.rpartition(":")
        # A colon may be part of the file's name.
        if not colon or Path(rest).exists():
            found[name] = Source(Path(rest))
        else:
            found[name] = Source(Path(path), int(band) if band.isdigit() else band)
    return found


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Name of the site: letters, digits, - _ . only.")],
    band: Annotated[
        list[str],
        typer.Option("--band", "-b", metavar=_SPEC, help="A band for the models; repeat it."),
    ],
    role: Annotated[str, typer.Option(help="train, validation, test or area.")] = "area",
    outlines: Annotated[
        Path | None, typer.Option(help="Polygons of all slumps of the site (not needed for areas).")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_SPEC,
            help="What reviewers look at: pre_red, pre_green, pre_blue, post_red, ...; repeat it.",
        ),
    ] = None,
    context_scale: Annotated[
        float, typer.Option(help="Factor that makes reflectance * 10000 of the context's values.")
    ] = 1.0,
    factor: Annotated[
        list[str] | None,
        typer.Option(metavar=_SPEC, help="A conditioning factor for susceptibility; repeat it."),
    ] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A band that holds classes; repeat it.")
    ] = None,
    grid_from: Annotated[
        str | None, typer.Option(metavar="NAME", help="Band whose raster defines the grid.")
    ] = None,
    crs: Annotated[str | None, typer.Option(help="CRS of the tile, as EPSG:32652.")] = None,
    resolution: Annotated[
        float | None, typer.Option(min=0.01, help="Pixel size in units of the CRS.")
    ] = None,
    pre: Annotated[
        tuple[str, str] | None, typer.Option(help="Images before: first day, day after the last.")
    ] = None,
    post: Annotated[
        tuple[str, str] | None, typer.Option(help="Images after: first day, day after the last.")
    ] = None,
    made_up: Annotated[bool, typer.Option("--made-up", help="The data are made up.")] = False,
) -> None:
    """Make tiles from GeoTIFFs of any sensor, without Earth Engine.

    They join the chain after the export. The grid is that of the first band's raster; others are
    warped to it.
    """
    import json

    from thawslump.tiles import import_tiles

    workspace = options.workspace()
    workspace.config  # noqa: B018  (says that the folder is no workspace)
    done = import_tiles(
        workspace,
        name,
        _parse(band, "--band"),
        role=role,
        outlines=outlines,
        grid_from=grid_from,
        crs=crs,
        resolution=resolution,
        context=_parse(context or [], "--context"),
        context_scale=context_scale,
        factors=_parse(factor or [], "--factor"),
        categorical=categorical or [],
        pre=pre,
        post=post,
        made_up=made_up,
    )
    if options.current.json:
        typer.echo(
            json.dumps(
                {
                    "site": done.site.name,
                    "role": done.site.role,
                    "shape": done.shape,
                    "bands": done.bands,
                    "positives": done.positives,
                    "notes": done.notes,
                    "written": [str(path) for path in done.written],
                }
            )
        )
        return
    rows, columns = done.shape
    typer.echo(f"{name}: {columns} x {rows} pixels of {done.site.resolution:g} in {done.site.crs}")
    for note in done.notes:
        typer.echo(f"  {note}")
    for label, share in done.bands.items():
        typer.echo(f"  {label}: {share:.1%} of the pixels have a value")
    if done.site.outlines is not None:
        typer.echo(f"  {done.positives} slump pixels")
    for path in done.written:
        typer.echo(path)
