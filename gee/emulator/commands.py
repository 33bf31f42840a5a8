"""`thawslump emulator`: the local Earth Engine endpoint and its catalogue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .capture.command import capture

__all__ = ["app", "capture", "faults", "ingest", "list_assets", "serve", "usage"]

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
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a request may take; exports have no end.")
    ] = 300.0,
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
        deadline=deadline,
        ready=ready,
    )


@app.command()
def ingest(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Rasters of one image, a folder of dated rasters, a vector file, a CSV of points, "
            "NetCDF, Zarr, or STAC."
        ),
    ],
    asset: Annotated[
        str | None,
        typer.Option("--as", help="Asset id; not for Sen12Landslides, which knows its own."),
    ] = None,
    catalog: Folder = None,
    bands: Annotated[
        str | None, typer.Option(help="Band names (of a cube: variables), separated by commas.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Date of the image, 2023-05-16.")] = None,
    end: Annotated[str | None, typer.Option(help="Its end, where it has a length.")] = None,
    dates: Annotated[
        str | None, typer.Option(help="How names in a folder hold dates: S2_%Y%m%d.")
    ] = None,
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="name=value; may be repeated.")
    ] = None,
    pyramiding: Annotated[
        list[str] | None,
        typer.Option(help="MEAN, SAMPLE, MODE, MIN or MAX; or band=POLICY, repeated."),
    ] = None,
    nodata: Annotated[float | None, typer.Option(help="Value that means no data.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a GeoPackage.")] = None,
    crs: Annotated[str | None, typer.Option(help="CRS of a file that names none.")] = None,
    x: Annotated[str | None, typer.Option(help="Column of a CSV that holds x.")] = None,
    y: Annotated[str | None, typer.Option(help="Column of a CSV that holds y.")] = None,
    assets: Annotated[
        str | None, typer.Option(help="Assets of STAC items to take, separated by commas.")
    ] = None,
    raw: Annotated[bool, typer.Option(help="Leave STAC scales and offsets unapplied.")] = False,
    reference: Annotated[
        bool, typer.Option(help="Leave the pixels in the GeoTIFF or VRT; copy nothing.")
    ] = False,
    dem: Annotated[
        str | None, typer.Option(help="Id for the elevation model of a Sen12Landslides cube.")
    ] = None,
) -> None:
    """Take files into the catalogue as assets.

    Started again after it was stopped, it goes on with what is missing or has changed.
    """
    from .catalog import Catalog
    from .ingest import ingest as take

    policy, policies = _policies(pyramiding or [])
    shown = _Progress()
    made = take(
        Catalog(_catalog(catalog), writable=True),
        sources,
        asset,
        dem=dem,
        progress=shown,
        names=_listed(bands),
        properties=_known(properties or []) or None,
        start=start,
        end=end,
        dates=dates,
        pyramiding=policy,
        policies=policies or None,
        nodata=nodata,
        layer=layer,
        crs=crs,
        x=x,
        y=y,
        assets=_listed(assets),
        raw=raw,
        reference=reference,
    )
    shown.close()
    for asset_id in made:
        _say(asset_id, asset=asset_id)


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",")] if text else None


def _known(pairs: list[str]) -> dict[str, Any]:
    """Return properties that were given as name=value; a value is JSON, else text."""
    from thawslump.errors import ConfigError

    known: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--property {pair!r}: expected name=value.")
        try:
            known[name] = json.loads(value)
        except ValueError:
            known[name] = value
    return known


def _policies(given: list[str]) -> tuple[str | None, dict[str, str]]:
    """Return the policy of all bands, and those of single ones."""
    from thawslump.errors import ConfigError

    from .catalog import POLICIES

    general, special = None, {}
    for text in given:
        name, equals, policy = text.rpartition("=")
        if policy.upper() not in POLICIES or (equals and not name):
            raise ConfigError(
                f"--pyramiding {text!r}: expected one of {', '.join(POLICIES)}, or band=POLICY."
            )
        if equals:
            special[name] = policy.upper()
        else:
            general = policy.upper()
    return general, special


class _Progress:
    """Tells on the terminal how many images are done and how long the rest will take."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int, asset_id: str) -> None:
        from thawslump.options import current

        if total < 2 or current.json:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("images", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, description=asset_id[-40:])

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@app.command()
def faults(
    file: Annotated[Path | None, typer.Argument(help="A faults file to check.")] = None,
) -> None:
    """Show an example of a faults file with every setting, or check one."""
    from .faults import example, load_faults

    if file is None:
        typer.echo(example())
        return
    found = load_faults(file)
    lines = [f"{file}: {len(found.rules)} rules, seed {found.seed}"]
    for number, rule in enumerate(found.rules):
        effect = rule.model_dump(exclude_none=True, exclude={"name", "match"})
        on = rule.match.model_dump(exclude_none=True) or "every request"
        lines.append(f"  {number}: {rule.name or 'rule'}: {effect} on {on}")
    if found.concurrent_requests is not None:
        lines.append(f"  requests at a time: {found.concurrent_requests.most}")
    if found.eecu_budget is not None:
        lines.append(f"  EECU-seconds a month: {found.eecu_budget.seconds_per_month:g}")
    _say("\n".join(lines), **found.model_dump(exclude_none=True))


@app.command()
def usage(
    month: Annotated[str | None, typer.Option(help="2026-01; this month else.")] = None,
    catalog: Folder = None,
    state: Annotated[
        Path | None, typer.Option(help="State folder; .state inside the catalogue else.")
    ] = None,
) -> None:
    """Show the EECU-seconds that the emulator metered, by project and workload tag."""
    from .quota import Meter, month_of
    from .store import Store

    folder = state if state is not None else _catalog(catalog) / ".state"
    if not (folder / "state.sqlite").is_file():
        _say("Nothing was metered.", month=month or month_of(), projects={})
        return
    store = Store(folder)
    try:
        found = Meter(store).report(month)
    finally:
        store.close()
    lines = [f"{month or month_of()} (UTC)"]
    for project, entry in found.items():
        lines.append(f"{entry['seconds']:12.3f} s  {project}")
        lines += [f"{seconds:12.3f} s    {tag}" for tag, seconds in entry["tags"].items()]
    _say("\n".join(lines), month=month or month_of(), projects=found)


@app.command("list")
def list_assets(
    parent: Annotated[str, typer.Argument(help="A folder or collection; the top else.")] = "",
    catalog: Folder = None,
) -> None:
    """List the assets of the catalogue, with their dates and bands."""
    from thawslump.errors import DataError

    from .catalog import Catalog
    from .store import timestamp

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
