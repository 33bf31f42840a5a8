"""`thawslump emulator`: the local Earth Engine endpoint and its catalogue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .capture.command import capture

__all__ = ["app", "capture", "ingest", "list_assets", "serve"]

app = typer.Typer(no_args_is_help=True, help="The local Earth Engine endpoint and its catalogue.")
app.command()(capture)

Folder = Annotated[
    Path | None,
    typer.Option("--catalog", help="The catalogue's folder; catalog/ of the workspace else."),
]


def _catalog(given: Path | None) -> Path:
    from thawslump.options import current

    return given if given is not None else current.workspace / "catalog"


def _say(words: str, **facts: Any) -> None:
    """Print a line for people, or the facts as a line of JSON."""
    from thawslump.options import current

    typer.echo(json.dumps(facts) if current.json else words)


@app.command()
def serve(
    catalog: Folder = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            help="What callers must show. Better given as THAWSLUMP_EMULATOR_TOKEN, which "
            "other users of this machine cannot see."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    state: Annotated[
        Path | None, typer.Option(help="Where exports go; .state inside the catalogue else.")
    ] = None,
    cache: Annotated[int, typer.Option(min=16, help="Memory for decoded pixels, in MiB.")] = 256,
    imports: Annotated[
        Path | None, typer.Option(help="Folder whose files manifests of imports may name.")
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="YAML file of faults on demand: slow, refused, broken answers, quotas."),
    ] = None,
) -> None:
    """Serve a catalogue as an Earth Engine endpoint until Ctrl-C."""
    from .server import serve as run

    folder = _catalog(catalog)

    def ready(url: str) -> None:
        _say(
            f"The emulator answers at {url}\n"
            f"  ee.Initialize(url={url!r}, project='local-project',\n"
            f"                credentials=AnonymousCredentials())\n"
            f"  catalogue {folder}; stop with Ctrl-C",
            url=url,
            catalog=str(folder),
        )

    run(
        folder,
        host,
        port,
        state=state,
        token=token or os.environ.pop("THAWSLUMP_EMULATOR_TOKEN", None),
        workers=workers,
        cache_bytes=cache * 2**20,
        imports=imports,
        faults=faults,
        ready=ready,
    )


@app.command()
def ingest(
    sources: Annotated[list[Path], typer.Argument(help="GeoTIFFs, a vector file, or cubes.")],
    asset: Annotated[
        str | None,
        typer.Option("--as", help="Asset id; not for cubes, which know their collections."),
    ] = None,
    catalog: Folder = None,
    bands: Annotated[str | None, typer.Option(help="Band names, separated by commas.")] = None,
    start: Annotated[str | None, typer.Option(help="Date of the image, 2023-05-16.")] = None,
    end: Annotated[str | None, typer.Option(help="Its end, where it has a length.")] = None,
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="name=value; may be repeated.")
    ] = None,
    pyramiding: Annotated[str, typer.Option(help="MEAN, SAMPLE, MODE, MIN or MAX.")] = "MEAN",
    nodata: Annotated[float | None, typer.Option(help="Value that means no data.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a GeoPackage.")] = None,
    dem: Annotated[str, typer.Option(help="Id for a cube's elevation model.")] = (
        "sen12landslides/dem"
    ),
) -> None:
    """Take files into the catalogue as assets."""
    from thawslump.errors import ConfigError

    from .catalog import POLICIES, Catalog
    from .ingest import ingest as take

    policy = pyramiding.upper()
    if policy not in POLICIES:
        raise ConfigError(f"--pyramiding {pyramiding!r}: expected one of {', '.join(POLICIES)}.")
    known: dict[str, Any] = {}
    for pair in properties or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--property {pair!r}: expected name=value.")
        try:
            known[name] = json.loads(value)
        except ValueError:
            known[name] = value
    names = [part.strip() for part in bands.split(",")] if bands else None
    made = take(
        Catalog(_catalog(catalog), writable=True),
        sources,
        asset,
        dem=dem,
        **({} if all(path.suffix.lower() == ".nc" for path in sources) else {
            "names": names, "properties": known, "start": start, "end": end,
            "pyramiding": policy, "nodata": nodata, "layer": layer,
        }),
    )  # fmt: skip
    for asset_id in made:
        _say(asset_id, asset=asset_id)


@app.command("list")
def list_assets(
    parent: Annotated[str, typer.Argument(help="A folder or collection; the top else.")] = "",
    catalog: Folder = None,
) -> None:
    """List the assets of the catalogue, with their dates and bands."""
    from thawslump.errors import DataError

    from .catalog import Catalog
    from .operations import timestamp

    assets = Catalog(_catalog(catalog))
    if parent and assets.get(parent) is None:
        raise DataError(f"There is no asset '{parent}' in {assets.root}.")
    for asset in assets.children(parent):
        day = "" if asset.start_ms is None else timestamp(asset.start_ms / 1000)[:10]
        names = ",".join(band.id for band in asset.bands)
        _say(
            f"{asset.type:16} {day:10} {asset.id} {names}".rstrip(),
            id=asset.id,
            type=asset.type,
            date=day or None,
            bands=[band.id for band in asset.bands],
        )
