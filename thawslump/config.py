"""Typed YAML: unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import importlib
import io
import json
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thawslump.errors import ConfigError, nearest
from thawslump.files import write_text

__all__ = [
    "ExecutorConfig",
    "commented_yaml",
    "config_model",
    "load_model",
    "parse_model",
    "target",
]

Model = TypeVar("Model", bound=BaseModel)

# Which class describes which section of thawslump.yaml. Strings, so that this package imports
# none of the three parts.
SECTIONS: dict[str, tuple[str, str]] = {
    "backend": ("gee.config:BackendConfig", "Where Earth Engine requests go."),
    "export": ("gee.config:ExportConfig", "How tiles are fetched."),
    "valley": ("gee.config:ValleyConfig", "The made-up valley; only in demonstrations."),
    "segmentation": ("trainer.config:SegmentationConfig", "The runs and their ensemble."),
    "susceptibility": ("trainer.config:SusceptibilityConfig", "The susceptibility models."),
    "candidates": ("inventory.config:CandidatesConfig", "From probability maps to outlines."),
    "review": ("inventory.config:ReviewConfig", "Who decides."),
    "rounds": ("inventory.config:RoundsConfig", "When the rounds end."),
    "executor": ("thawslump.config:ExecutorConfig", "Where local work runs."),
}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ ./+-]*")
OPTIONAL_SECTIONS = ("valley",)


class ExecutorConfig(BaseModel):
    """Where local work runs."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["processes", "serial", "dask"] = Field(
        "processes",
        description="processes on this machine, serial (in one process), or a Dask cluster",
    )
    workers: int = Field(2, ge=1, le=1024, description="items worked on at the same time")
    address: str | None = Field(
        None, description="address of a running Dask scheduler; none starts a local cluster"
    )


def target(name: str) -> Any:
    """Return the object that a "package.module:attribute" string names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def config_model() -> type[BaseModel]:
    """Return the model of thawslump.yaml, put together from the sections of the parts."""
    from pydantic import create_model

    fields: dict[str, Any] = {
        "name": (str, Field("thawslump workspace", description="shown on the report")),
        "made_up": (
            bool,
            Field(False, description="the data are made up; said on everything that shows them"),
        ),
    }
    for section, (where, words) in SECTIONS.items():
        model = target(where)
        if section in OPTIONAL_SECTIONS:
            fields[section] = (model | None, Field(None, description=words))
        else:
            fields[section] = (model, Field(default_factory=model, description=words))
    return create_model("Config", __config__=ConfigDict(extra="forbid"), **fields)


def _known_keys(model: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = _model_in(field.annotation) if field is not None else None
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def parse_model(model: type[Model], values: Any, where: str) -> Model:
    """Validate `values`, naming each wrong key and value and the place where it stands.

    Raises
    ------
    ConfigError
        With one line per fault; an unknown key comes with the nearest known one.
    """
    try:
        return model.model_validate({} if values is None else values)
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            place = fault["loc"]
            dotted = ".".join(str(part) for part in place)
            if fault["type"] == "extra_forbidden":
                known = _known_keys(model, place[:-1])
                lines.append(
                    f'{where}: unknown key "{dotted}".'
                    + (nearest(str(place[-1]), known) or f" Known keys: {', '.join(known)}.")
                )
            elif fault["type"] == "missing":
                lines.append(f'{where}: the key "{dotted}" is missing.')
            else:
                words = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
                # What is wrong with the whole says itself which keys it is about.
                given = f" {dotted} = {fault['input']!r}:" if dotted else ""
                lines.append(f"{where}:{given} {words}.")
        raise ConfigError("\n".join(lines), hint=f"Edit {where} and start again.") from None


def load_model(model: type[Model], path: Path) -> Model:
    """Read and validate a YAML file.

    Raises
    ------
    ConfigError
        No such file, no YAML, or a key or value that does not fit.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist.", hint="`thawslump new DIR` makes a workspace.")
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid YAML: {error}", hint="Check the indentation and the colons."
        ) from None
    return parse_model(model, values, str(path))


def commented_yaml(value: BaseModel, *, header: str = "") -> str:
    """Return YAML of a model instance with every field's description as a comment.

    Examples
    --------
    >>> print(commented_yaml(ExecutorConfig(workers=4)).splitlines()[2])
    # items worked on at the same time
    """
    out = io.StringIO()
    for line in header.splitlines():
        out.write(f"# {line}".rstrip() + "\n")
    _write_model(out, value, 0)
    return out.getvalue()


def _write_model(out: io.StringIO, value: BaseModel, indent: int) -> None:
    pad = " " * indent
    for name, field in type(value).model_fields.items():
        current = getattr(value, name)
        for line in textwrap.wrap(field.description or "", 94 - indent):
            out.write(f"{pad}# {line}\n")
        if isinstance(current, BaseModel):
            out.write(f"{pad}{name}:\n")
            _write_model(out, current, indent + 2)
        else:
            out.write(_plain(name, value.model_dump(mode="json")[name], indent))


def _plain(name: str, value: Any, indent: int) -> str:
    # JSON is YAML; unlike a YAML writer it never breaks or reorders a line.
    pad = " " * indent
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = "".join(f"{pad}  - {_flow(row)}\n" for row in value)
        return f"{pad}{name}:\n{rows}"
    return f"{pad}{name}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    # Words that YAML would read as something else keep their quotes.
    reserved = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    if isinstance(value, str) and value.lower() not in reserved and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def save_yaml(path: Path, value: BaseModel, *, header: str = "") -> None:
    """Write `commented_yaml` of a model instance, atomically."""
    write_text(path, commented_yaml(value, header=header))
