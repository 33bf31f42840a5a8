"""Commented starter files, generated from the models that read them."""

from __future__ import annotations

from pathlib import Path

from thawslump.config import config_model, save_yaml
from thawslump.errors import ConfigError
from thawslump.files import write_text
from thawslump.site import Site, Window

__all__ = ["make"]

_HEADER = (
    "thawslump.yaml: settings of this workspace. Every line shows its default;\n"
    "what you leave out keeps it. `thawslump run` does what is left."
)
_SITE_HEADER = (
    "An area to map. Rename the file and `name` together.\n"
    "Sites with known outlines go to sites/, with role train, validation or test and `outlines`."
)


def make(directory: Path, *, example: bool = True) -> list[Path]:
    """Write thawslump.yaml and, as an example, an area file.

    Raises
    ------
    ConfigError
        There is a workspace already.
    """
    directory = Path(directory)
    path = directory / "thawslump.yaml"
    if path.exists():
        raise ConfigError(f"{path} exists: this is a workspace already.", hint="Edit it.")
    save_yaml(path, config_model()(), header=_HEADER)
    made = [path]
    if example:
        site = Site(
            name="beiluhe",
            role="area",
            bounds=(92.85, 34.75, 93.05, 34.90),
            pre=Window(start="2019-06-15", end="2019-09-01"),
            post=Window(start="2023-06-15", end="2023-09-01"),
        )
        # A suffix that nothing reads: an example must not be exported by accident.
        made.append(directory / "areas" / "beiluhe.yaml.example")
        save_yaml(made[-1], site, header=_SITE_HEADER)
    write_text(directory / ".gitignore", "tiles/\nrounds/\ncatalog/\nledger.sqlite*\n.lock*\n")
    return made
