"""The WebUI's login, so that our routes demand the same login as its page."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_LOCAL = ("", "127.0.0.1", "localhost", "::1")


class Login:
    """The page's login (--gradio-auth) and the API's (--api-auth), or SD.Next's one (--auth), of the running WebUI."""

    def __init__(self, app: Any, flags: Any) -> None:
        self._app = app
        self._page = bool(getattr(app, "auth", None)) or bool(
            getattr(flags, "gradio_auth", None) or getattr(flags, "gradio_auth_path", None)
        )
        # SD.Next has one login for both, in two flags of its own.
        common, file = getattr(flags, "auth", None), getattr(flags, "auth_file", None)
        self._page = self._page or bool(common or file)
        self._api = _pairs(getattr(flags, "api_auth", None) or common) + _pairs(_read(file))
        listens = any(bool(getattr(flags, name, None)) for name in ("listen", "server_name", "share", "ngrok"))
        # What Gradio itself takes where the WebUI says nothing.
        listens = listens or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1") not in _LOCAL
        listens = listens or os.environ.get("GRADIO_SHARE", "").lower() == "true"
        insecure = any(bool(getattr(flags, name, False)) for name in ("enable_insecure_extension_access", "insecure"))
        self.paths = self._page or bool(self._api) or insecure or not listens
        """False when the page is open to the network without a login: nothing may then name a folder."""
        self.local = not (listens or self._page or self._api)
        """True when only this machine is to reach the page, and it has no login."""

    @property
    def challenge(self) -> dict[str, str]:
        """Headers that make a browser ask for name and password: where only the API has a login, the page has none."""
        return {"WWW-Authenticate": 'Basic realm="WebUI"'} if self._api and not self._page else {}

    def user(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
        """The name of the person who is logged in at the page or with the API's name; "" for nobody."""
        tokens = getattr(self._app, "tokens", None) or {}
        for name, value in cookies.items():
            if name.startswith("access-token") and value in tokens:
                return str(tokens[value])
        given = _basic(headers.get("authorization", ""))
        return given[0] if given is not None and self.lets_in(headers, cookies) else ""

    def lets_in(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """True for whoever is logged in at the page or gives the API's name and password."""
        if not self._page and not self._api:
            return True
        tokens = getattr(self._app, "tokens", None) or {}
        if self._page and any(name.startswith("access-token") and value in tokens for name, value in cookies.items()):
            return True
        given = _basic(headers.get("authorization", ""))
        return given is not None and any(
            secrets.compare_digest(given[0].encode(), name.encode())
            & secrets.compare_digest(given[1].encode(), password.encode())
            for name, password in self._api
        )


def _pairs(text: str | None) -> list[tuple[str, str]]:
    """ "a:b,c:d" -> [("a", "b"), ("c", "d")]."""
    found: Iterable[tuple[str, str, str]] = (item.strip().partition(":") for item in (text or "").split(","))
    return [(name, password) for name, colon, password in found if colon]


def _read(path: str | None) -> str:
    """A file of names and passwords, one pair a line or with commas; "" when it cannot be read."""
    try:
        return ",".join(Path(path).read_text(encoding="utf-8").splitlines()) if path else ""
    except OSError:
        return ""


def _basic(header: str) -> tuple[str, str] | None:
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None
