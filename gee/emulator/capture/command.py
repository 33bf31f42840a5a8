"""`thawslump emulator capture`: record the live service's answers, or compare with a recording."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .kit import Request
    from .recording import Service

__all__ = ["capture"]


def capture(
    project: Annotated[
        str | None,
        typer.Option(help="Cloud project that is registered for Earth Engine."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Where the answers go; an unfinished file is continued.")
    ] = Path("earth-engine-answers.json"),
    url: Annotated[
        str | None,
        typer.Option(
            help="Ask an emulator at this address instead (its token: THAWSLUMP_EMULATOR_TOKEN)."
        ),
    ] = None,
    pause: Annotated[float, typer.Option(min=0, max=60, help="Seconds between requests.")] = 0.5,
    recording: Annotated[
        Path | None,
        typer.Option("--compare", help="Compare this recording with the emulator; send nothing."),
    ] = None,
) -> None:
    """Record what Earth Engine answers to the questions that its documentation leaves open.

    Sends about a hundred small requests that come with this program, one after the other, and no
    others. They store and export nothing, and use a few seconds of the project's quota.
    """
    from thawslump.errors import ConfigError

    if recording is not None:
        _report(recording)
        return
    from .kit import Kit
    from .recording import LIVE, Service, record

    if project is None and url is None:
        raise ConfigError(
            "thawslump emulator capture needs a project.",
            hint="Give the Cloud project that you use Earth Engine with: --project PROJECT",
        )
    kit = Kit.stored()
    _say(
        f"Sends {len(kit.requests)} small requests to {url or LIVE}, one at a time: tiny images, "
        "numbers and mistakes.\nNothing is stored or exported there; a few seconds of the "
        f"project's quota are used. Answers go to {output}, without project or credential.",
        event="begins", requests=len(kit.requests), service=url or LIVE, output=str(output),
    )  # fmt: skip
    service: Service
    if url is not None:
        token = os.environ.get("THAWSLUMP_EMULATOR_TOKEN")
        service = Service.at(url, project or "local-project", token)
    else:
        assert project is not None
        service = Service.live(project)

    def told(number: int, count: int, request: Request, answer: dict[str, Any]) -> None:
        words = answer.get("error", "answered")
        _say(
            f"[{number}/{count}] {request.id}: {words[:100]}",
            event="answer", number=number, count=count, request=request.id,
            status=answer["status"],
        )  # fmt: skip

    answers = record(service, output, kit=kit, pause=pause, told=told)["answers"]
    _say(
        f"All {len(answers)} answers are in {output}.\n"
        "Put it into tests/golden/ and run the tests, or: thawslump emulator capture --compare "
        f"{output}",
        event="ends", answers=len(answers), output=str(output),
    )  # fmt: skip


def _report(recording: Path) -> None:
    """Print which rules agree with a recording, and where others differ."""
    from thawslump.errors import DataError

    from .comparing import compare
    from .kit import Kit
    from .recording import read

    kit = Kit.stored()
    found = read(recording)
    findings = compare(found, kit)
    _say(
        f"{found.get('service')}, recorded {found.get('recorded')}",
        event="recording", service=found.get("service"), recorded=found.get("recorded"),
    )  # fmt: skip
    for rule in kit.rules.values():
        of_rule = [finding for finding in findings if finding.request.rule == rule.id]
        verdicts = [finding.verdict for finding in of_rule]
        verdict = "differs" if "differs" in verdicts else "not promised"
        if len(set(verdicts)) == 1:
            verdict = verdicts[0]
        elif verdict != "differs" and "unanswered" in verdicts:
            verdict = "unanswered in part"
        lines = [f"{verdict:12} {rule.id}"]
        for finding in of_rule:
            if finding.words:
                lines.append(f"    {finding.request.id}: {finding.words}")
        _say(
            "\n".join(lines),
            event="rule", rule=rule.id, verdict=verdict,
            requests={f.request.id: [f.verdict, f.words] for f in of_rule},
        )  # fmt: skip
    counts = collections.Counter(finding.verdict for finding in findings)
    _say(
        "; ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())),
        event="ends",
        counts=dict(counts),
    )
    if counts["differs"]:
        raise DataError(f"{counts['differs']} of {len(findings)} requests differ from {recording}.")


def _say(words: str, **facts: Any) -> None:
    """Print a line for people, or the facts as a line of JSON."""
    from thawslump.options import current

    typer.echo(json.dumps(facts) if current.json else words)
