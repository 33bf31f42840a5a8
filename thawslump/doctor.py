"""What this machine has and lacks: each check with its remedy. Nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import json as json_module
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawslump.workspace import Workspace

__all__ = ["Check", "checks", "show"]

PARTS = ("gee", "trainer", "inventory")
REVIEW_PORT = 8765
SERVICE_SECONDS = 30.0
_OLDEST = (3, 11)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    state : {"ok", "warn", "fail"}
        "warn" hinders some work, "fail" all of it.
    words : str
        What was found.
    remedy : str
        What to do; empty where nothing is to be done.
    """

    name: str
    state: str
    words: str
    remedy: str = ""


def checks(workspace: Workspace | None = None, offline: bool = False) -> list[Check]:
    """Look at the machine, and at a workspace where one is given.

    Parameters
    ----------
    workspace : Workspace, optional
        Its settings, disk and ledger are looked at as well, and its endpoint is asked.
    offline : bool
        Ask no endpoint.

    Returns
    -------
    list of Check
    """
    root = workspace.root if workspace is not None else Path.cwd()
    found = [
        python_check(sys.version_info[:3]),
        *packages(),
        *shadowed(),
        processor(),
        memory(),
        disk(root),
        graphics(),
        credentials(workspace),
        port(REVIEW_PORT),
        browser(),
    ]
    if workspace is not None:
        found += in_workspace(workspace)
        if not offline:
            found += service(workspace)
    return found


def python_check(version: tuple[int, int, int]) -> Check:
    """Check the version of Python."""
    words = ".".join(map(str, version))
    if version[:2] < _OLDEST:
        return Check("python", "fail", f"{words}; 3.11 or newer is needed",
                     "Make the virtual environment with a newer Python.")  # fmt: skip
    return Check("python", "ok", f"{words}, {platform.machine()}, {platform.system()}")


def packages(distribution: str = "thawslump") -> list[Check]:
    """Check that the packages which thawslump declares are installed in versions that fit."""
    try:
        wanted = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return [
            Check(
                "packages", "warn", f"{distribution} itself is not installed as a package",
                "pip install . (in the folder with pyproject.toml)",
            )
        ]  # fmt: skip
    missing, old, versions = [], [], {}
    for requirement in wanted:
        name, least, extra = parse(requirement)
        if extra:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        versions[name] = version
        if least and numbers(version) < numbers(least):
            old.append(f"{name} {version} (at least {least})")
    told = ("torch", "earthengine-api", "rasterio")
    shown = [f"{name} {versions[name]}" for name in told if name in versions]
    faults = [f"{name} is missing" for name in missing]
    faults += [f"{words} is too old" for words in old]
    if faults:
        return [Check("packages", "fail", "; ".join(faults), "pip install --upgrade thawslump")]
    return [Check("packages", "ok", f"{len(versions)} installed, among them {', '.join(shown)}")]


def parse(requirement: str) -> tuple[str, str, bool]:
    """Return name, least version and whether an extra asks for a requirement.

    Examples
    --------
    >>> parse("rasterio>=1.4.3"), parse('mypy>=1.13; extra == "test"')
    (('rasterio', '1.4.3', False), ('mypy', '1.13', True))
    """
    plain, _, marker = requirement.partition(";")
    name = re.match(r"[A-Za-z0-9._-]+", plain.strip())
    least = re.search(r">=\s*([0-9][^,\s]*)", plain)
    return name.group() if name else plain, least.group(1) if least else "", "extra" in marker


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison.

    Examples
    --------
    >>> numbers("2.10.1+cpu") > numbers("2.9")
    True
    """
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def shadowed(names: Iterable[str] = PARTS) -> list[Check]:
    """Check that the parts which Python finds by name are ours, not another distribution's."""
    ours = Path(__file__).resolve().parents[1]
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or []) if spec else []
        if not places:
            words = f"the part {name} is not installed"
            found.append(Check("imports", "fail", words, "pip install thawslump"))
        elif Path(places[0]).resolve().parent != ours:
            found.append(
                Check(
                    "imports", "fail",
                    f"import {name} finds {places[0]}, which is not thawslump's",
                    f"Remove the other distribution that brings {name}, start in another folder, "
                    "or use a virtual environment of its own.",
                )
            )  # fmt: skip
    return found or [Check("imports", "ok", f"{', '.join(names)} are thawslump's own")]


def processor() -> Check:
    """Report the cores that this process may use."""
    own = hasattr(os, "sched_getaffinity")
    count = (len(os.sched_getaffinity(0)) if own else os.cpu_count()) or 1
    if count == 1:
        return Check("processor", "warn", "1 core", "The demo takes twice as long as on two.")
    return Check("processor", "ok", f"{count} cores")


def memory() -> Check:
    """Report memory; a container's limit counts where it is lower."""
    total, free = _memory()
    limit = _container_limit()
    words = f"{_gib(total)} in all, {_gib(free)} free"
    if limit is not None and limit < total:
        words += f", of which this container may use {_gib(limit)}"
        free = min(free, limit)
    if free < 2 * 2**30:
        return Check("memory", "warn", words, "Close programs, or set executor.workers: 1.")
    return Check("memory", "ok", words)


def _memory() -> tuple[int, int]:
    import psutil

    found = psutil.virtual_memory()
    return int(found.total), int(found.available)


def _container_limit() -> int | None:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def disk(folder: Path) -> Check:
    """Report free space where files would be written, and whether they can be."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        return Check("disk", "fail", f"{there} is not writable", "Choose a folder of your own.")
    free = shutil.disk_usage(there).free
    words = f"{_gib(free)} free in {there}"
    if free < 2**30:
        return Check("disk", "warn", words, "Free some space: the demo writes about 200 MB.")
    return Check("disk", "ok", words)


def graphics() -> Check:
    """Report a graphics card, asked from its driver: torch is not imported for that."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("graphics card", "ok", "none found; training runs on the processor")
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("graphics card", "warn", f"nvidia-smi does not answer: {error}",
                     "Check the driver; training runs on the processor until then.")  # fmt: skip
    if out.returncode != 0 or not out.stdout.strip():
        return Check("graphics card", "warn", "a driver is there, but it reports no card",
                     "Check the driver; training runs on the processor until then.")  # fmt: skip
    words = "; ".join(out.stdout.strip().splitlines())
    try:
        built = metadata.version("torch")
    except metadata.PackageNotFoundError:
        built = ""
    if built.endswith("+cpu"):
        return Check("graphics card", "warn", f"{words}, but torch {built} cannot use it",
                     "Install a torch build for CUDA.")  # fmt: skip
    return Check("graphics card", "ok", words)


def credentials(workspace: Workspace | None = None) -> Check:
    """Report which Earth Engine credentials there are; the emulator needs none.

    Files are looked at, nobody is asked: whether credentials are still accepted shows `service`.
    """
    from thawslump.config import target
    from thawslump.errors import ThawslumpError

    key, live = None, False
    if workspace is not None:
        try:
            backend = workspace.config.backend
            key, live = backend.service_account_key, backend.kind == "earthengine"
        except ThawslumpError:
            pass  # `in_workspace` tells
    try:
        found = target("gee.credentials:find")(key)
    except (ImportError, AttributeError) as error:  # `shadowed` tells why
        return Check("credentials", "warn", f"cannot be looked at: {error}", "See imports.")
    if found.problem:
        return Check("credentials", "fail" if live else "warn", found.problem, found.remedy)
    if found.kind != "none":
        return Check("credentials", "ok", f"Earth Engine: {found}")
    return Check(
        "credentials",
        "warn" if live else "ok",
        "no credentials for Earth Engine: the emulator works without, the live service does not",
        "For the live service: earthengine authenticate, or backend.service_account_key",
    )


def service(workspace: Workspace, limit: float = SERVICE_SECONDS) -> list[Check]:
    """Ask the endpoint of a workspace whether it answers, for which project, and how much.

    Parameters
    ----------
    workspace : Workspace
    limit : float
        Seconds after which no answer is the answer. It is asked by a process of its own: a
        network that swallows packets keeps a client waiting in more than one place.
    """
    from thawslump.errors import ThawslumpError

    try:
        backend = workspace.config.backend
    except ThawslumpError:
        return []  # `in_workspace` tells
    command = [sys.executable, "-m", "gee.service", str(workspace.root)]
    root = str(Path(__file__).parents[1])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ, "PYTHONPATH": root if not known else os.pathsep.join((root, known)),
    }  # fmt: skip
    try:
        out = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, env=environment
        )
        rows = [json_module.loads(line) for line in out.stdout.splitlines()]
    except subprocess.TimeoutExpired:
        where = backend.address() or "the workspace's own emulator"
        return [
            Check("backend", "warn", f"no answer within {limit:g} s from {where}",
                  "Check the network (and the proxy settings); --offline leaves this out.")
        ]  # fmt: skip
    except ValueError:
        rows = []
    if out.returncode != 0 or not rows:
        said = (out.stderr.strip().splitlines() or [f"exit code {out.returncode}"])[-1]
        return [
            Check("backend", "warn", f"it could not be asked: {said}",
                  "`thawslump export plan` asks it too, and says more.")
        ]  # fmt: skip
    return [Check(**row) for row in rows]


def port(number: int) -> Check:
    """Check whether the review page's usual port is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as test:
        # As a server does: a port that was in use a moment ago counts as free.
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test.bind(("127.0.0.1", number))
        except OSError:
            return Check("port", "warn", f"port {number} is in use",
                         "Give the servers another with --port.")  # fmt: skip
    return Check("port", "ok", f"port {number} is free")


def browser() -> Check:
    """Report a browser; the review page opens in any, tests use Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome", "firefox"):
        if shutil.which(name):
            return Check("browser", "ok", f"{name} is here")
    return Check("browser", "ok", "none found here; the review page opens from any machine that "
                 "reaches this one")  # fmt: skip


def in_workspace(workspace: Workspace) -> list[Check]:
    """Check a workspace: its settings, sites, and what failed."""
    from thawslump.errors import ThawslumpError

    found = []
    try:
        config, sites = workspace.config, workspace.declared
        workspace.mosaics  # noqa: B018  (areas that cannot be cut into parts are said)
    except ThawslumpError as error:
        return [Check("workspace", "fail", error.message, error.hint or "")]
    words = f"{workspace.root}: {len(sites)} sites and areas, settings are sound"
    found.append(Check("workspace", "ok", words))
    roles = [site.role for site in sites.values()]
    split = config.segmentation.split == "blocks"  # then a training site validates, too
    needed = ("train", "area") if split else ("train", "validation", "area")
    lacking = [role for role in needed if role not in roles]
    if lacking:
        found.append(
            Check("sites", "warn", f"no site has the role {' or '.join(lacking)}",
                  "`thawslump site add` makes one; training needs train and validation.")
        )  # fmt: skip
    if config.executor.workers > (os.cpu_count() or 1):
        found.append(
            Check("executor", "warn", f"executor.workers is {config.executor.workers}, but there "
                  f"are {os.cpu_count()} cores", "Set it to the number of cores.")
        )  # fmt: skip
    if workspace.ledger.exists():
        from thawslump.ledger import Ledger

        ledger = Ledger(workspace.ledger, workspace.root)
        try:
            failed = [row for row in ledger.rows() if row.state == "failed"]
        finally:
            ledger.close()
        for row in failed:
            words = f"{row.step} {row.name} failed: {(row.error or '?').splitlines()[0]}"
            found.append(
                Check("ledger", "warn", words, "Mend the cause, then `thawslump run`.")
            )  # fmt: skip
    return found


def show(found: list[Check], json: bool = False) -> str:
    """Return the checks as text, or as JSON lines.

    Examples
    --------
    >>> print(show([Check("disk", "warn", "0.5 GiB free", "Free some space.")]))
    !  disk           0.5 GiB free
                      -> Free some space.
    1 of 1 deserve a look.
    """
    if json:
        return "\n".join(json_module.dumps(asdict(check), sort_keys=True) for check in found)
    marks = {"ok": " ", "warn": "!", "fail": "x"}
    lines = []
    for check in found:
        lines.append(f"{marks[check.state]}  {check.name:<15}{check.words}")
        if check.remedy:
            lines.append(f"{'':<18}-> {check.remedy}")
    bad = sum(check.state != "ok" for check in found)
    lines.append(f"{bad} of {len(found)} deserve a look." if bad else "Nothing is amiss.")
    return "\n".join(lines)
