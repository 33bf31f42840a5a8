"""Who asks the live service: a service account, the user, or the application default.

Looks at files only; keys and tokens are never shown, logged or written anywhere. Loads without
the Earth Engine client.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thawslump.errors import BackendError

__all__ = ["VARIABLE", "Credentials", "find", "load"]

VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
Kind = Literal["service account", "user", "application default", "none"]
_AUTHENTICATE = "Run `earthengine authenticate` once on this machine"
_KEY = (
    "A key is a JSON file that the Cloud console makes (IAM & Admin, Service accounts, Keys); "
    "copy it whole, and let nobody else read it."
)


@dataclass(frozen=True)
class Credentials:
    """What was found of credentials, without anything secret.

    Attributes
    ----------
    kind : {"service account", "user", "application default", "none"}
    path : Path or None
        The file that holds them.
    account : str
        Who it is, where the file says.
    origin : str
        The setting, variable or command that they come from.
    problem, remedy : str
        What is wrong with the file and what to do; empty where nothing is.
    """

    kind: Kind
    path: Path | None = None
    account: str = ""
    origin: str = ""
    problem: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        if self.kind == "none":
            return "no credentials"
        who = f" {self.account}" if self.account else ""
        return f"{self.kind}{who} ({self.origin}, {self.path})"


def find(key: Path | None = None) -> Credentials:
    """Return the credentials that a connection would use, from the files that hold them.

    Parameters
    ----------
    key : Path, optional
        ``backend.service_account_key``.

    Notes
    -----
    In this order: the key file of the settings; `GOOGLE_APPLICATION_CREDENTIALS` where it names a
    service account's key; what ``earthengine authenticate`` stored; other application default
    credentials (that variable, then those of gcloud). The client of Earth Engine alone would
    take stored credentials before the variable. A file that is named but cannot be used is a
    problem, never passed over for the next. A machine of the cloud has credentials without a
    file: these only show when asked for.
    """
    if key is not None:
        return _service_account(key, "backend.service_account_key")
    given = os.environ.get(VARIABLE)
    if given:
        path = Path(given).expanduser()
        facts, problem = _read(path)
        if problem:
            return Credentials(
                "application default", path, "", VARIABLE, f"{VARIABLE} names {path}: {problem}",
                "Correct the path or unset the variable.",
            )  # fmt: skip
        if facts.get("type") == "service_account":
            return _service_account(path, VARIABLE)
    stored = Path("~/.config/earthengine/credentials").expanduser()
    if stored.exists():
        facts, problem = _read(stored)
        if problem or facts.get("refresh_token"):
            problem = problem and f"{stored}: {problem}"
            remedy = f"{_AUTHENTICATE} again." if problem else ""
            return Credentials("user", stored, "", "earthengine authenticate", problem, remedy)
    if given:
        return Credentials("application default", Path(given).expanduser(), "", VARIABLE)
    own = _gcloud()
    if own.exists():
        _, problem = _read(own)
        problem = problem and f"{own}: {problem}"
        remedy = "Run `gcloud auth application-default login` again." if problem else ""
        return Credentials("application default", own, "", "gcloud", problem, remedy)
    return Credentials("none")


def load(found: Credentials) -> Any:
    """Return credentials for `ee.Initialize`.

    Returns
    -------
    google.oauth2.service_account.Credentials or str
        For kinds other than a service account the word by which the client finds them itself.

    Raises
    ------
    BackendError
        The file cannot be used; says why, and shows nothing of what it holds.
    """
    if found.problem:
        raise BackendError(f"No credentials: {found.problem}", hint=found.remedy)
    if found.kind != "service account":
        return "persistent"
    import ee

    try:
        return ee.ServiceAccountCredentials(key_file=str(found.path))
    except (ValueError, OSError, ee.EEException) as error:
        # Not the error's own words, nor a trace to it: they may quote the key.
        raise BackendError(
            f"No credentials: {found.path} ({found.origin}) has the fields of a service account's "
            f"key, but its private key cannot be read ({type(error).__name__}).",
            hint=_KEY,
        ) from None


def _gcloud() -> Path:
    folder = os.environ.get("CLOUDSDK_CONFIG")
    if folder is None:
        windows = sys.platform == "win32" and os.environ.get("APPDATA")
        folder = f"{windows}/gcloud" if windows else "~/.config/gcloud"
    return Path(folder).expanduser() / "application_default_credentials.json"


def _service_account(path: Path, origin: str) -> Credentials:
    facts, problem = _read(path)
    if not problem:
        kind = facts.get("type")
        missing = [
            name for name in ("client_email", "private_key", "token_uri") if not facts.get(name)
        ]
        if kind != "service_account":
            shown = f'type "{kind}"' if isinstance(kind, str) else "no type"
            problem = f'it is no key of a service account ({shown} instead of "service_account")'
        elif missing:
            problem = f"the key lacks {', '.join(missing)}"
    account = facts.get("client_email")
    return Credentials(
        "service account", path, account if isinstance(account, str) else "", origin,
        problem and f"{origin} names {path}: {problem}", _KEY if problem else "",
    )  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "there is no such file"
    except OSError as error:
        return {}, f"the file cannot be read ({error.strerror})"
    except ValueError:
        return {}, "the file is no JSON"
    if not isinstance(facts, dict):
        return {}, "the file holds no JSON object"
    return facts, ""
