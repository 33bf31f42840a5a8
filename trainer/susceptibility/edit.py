"""Which models a workspace compares, written into its settings without touching anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from thawslump.errors import ConfigError, nearest
from thawslump.files import write_text

__all__ = ["set_models"]


def set_models(path: Path, models: str) -> list[str]:
    """Write models and ``side_by_side: true`` into thawslump.yaml; comments and order stay.

    Parameters
    ----------
    path : Path
    models : str
        Names with commas between, or "he2024".

    Returns
    -------
    list of str
        What was changed, in words; nothing where it stood there already.

    Raises
    ------
    ConfigError
        The file is none, a model is unknown, or the settings are written in a way that cannot be
        edited; the file is as it was.
    """
    from thawslump.config import config_model, load_model, parse_model
    from trainer.susceptibility.config import ModelName, SusceptibilityConfig

    before = load_model(config_model(), path)
    names = [name.strip() for name in models.split(",") if name.strip()]
    known = (*get_args(ModelName), "he2024")
    for name in names:
        if name not in known:
            raise ConfigError(
                f'--models names "{name}"; models are {", ".join(known[:-1])}, or he2024 alone for '
                f"the six of He et al. (2024).{nearest(name, known)}",
                hint="Give their names with commas between.",
            )
    value: Any = "he2024" if names == ["he2024"] else names
    wanted = {"models": value, "side_by_side": True}
    asked = parse_model(SusceptibilityConfig, wanted, "--models")
    now = before.susceptibility  # type: ignore[attr-defined]
    text, told = path.read_text(encoding="utf-8"), []
    for key, new in wanted.items():
        if getattr(now, key) == getattr(asked, key):
            continue
        words = new if isinstance(new, str) else str(new).lower().replace("'", "")
        text = _with(text, key, words, path)
        told.append(f"{path.name}: susceptibility.{key} is {words} now.")
    if told:
        from ruamel.yaml import YAML

        parse_model(config_model(), YAML(typ="safe", pure=True).load(text), str(path))
        write_text(path, text)
    return told


def _with(text: str, key: str, words: str, path: Path) -> str:
    """Return the text with another value of susceptibility.<key>."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    root = YAML(typ="safe", pure=True).compose(text)
    part = _value(root, "susceptibility")
    if part is None:
        end = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{end}susceptibility:\n  {key}: {words}\n"
    if not isinstance(part, MappingNode) or part.flow_style:
        raise ConfigError(
            f"{path}: susceptibility is not written as lines of `key: value`, which is what can be "
            "edited.",
            hint=f"Set susceptibility.{key}: {words} by hand.",
        )
    node = _value(part, key)
    if node is None:
        first = part.value[0][0].start_mark
        return f"{text[: first.index]}{key}: {words}\n{' ' * first.column}{text[first.index :]}"
    block = isinstance(node, SequenceNode) and not node.flow_style
    end = node.value[-1].end_mark.index if block else node.end_mark.index
    start = next(k for k, v in part.value if v is node).end_mark.index
    return f"{text[:start]}: {words}{text[end:]}"


def _value(node: Any, key: str) -> Any:
    for name, value in getattr(node, "value", None) or ():
        if name.value == key:
            return value
    return None
