"""Checks of a request before a route serves it: where it comes from, how large it is, and which paths it names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from atelier.config.datasets import DatasetConfig
from atelier.config.files.limits import check_size
from atelier.config.settings.named import named_addresses, named_classes, named_paths
from atelier.config.settings.schema import Settings, labelled

LARGEST_BODY = 2**20
"""Largest body of a request, in bytes. Settings and TOML are far smaller."""
OWN_HEADER = "x-atelier"
"""A header that our page sends. A form on another site cannot send it, a script there only with a permission that we
never give."""
_SAMPLE_FILE = re.compile(r"\d{1,12}-\d{1,6}\.png")
_LONGEST_INTEGER = 20


class Refused(Exception):
    """A request that is refused. `status` is the HTTP status, the text a sentence. `more` is added to the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.more = more


@dataclass(frozen=True)
class Access:
    """The rules of the host for requests."""

    guard: Callable[[Request], None] | None = None
    """Called before every route. Raises `Refused` for a request without login."""
    paths: bool = True
    """False: a run may only name folders of the host, and no Python class to import."""
    user: Callable[[Request], str] | None = None
    """Gives the name of the person who is logged in, "" for nobody. None where there is no login."""
    local: bool = False
    """True when the page is meant for this machine only and no login protects it: see `check_host`."""


def check_host(request: Request) -> None:
    """Refuses a page of another site whose name was pointed at this machine (DNS rebinding). Raises `Refused`.

    The browser takes such a page for ours, but its requests still carry its own name in the header Host. IP addresses
    cannot be pointed elsewhere, and localhost is always this machine. ATELIER_HOSTS allows further names, such as that
    of a proxy.
    """
    name = _host_name(request.headers.get("host", ""))
    if name in _known_hosts() or name == "localhost" or name.endswith(".localhost") or _is_number(name):
        return
    raise Refused(
        403,
        f"This WebUI serves its own machine only, but the request was for {name[:100] or 'nothing'}. Open it as "
        "localhost, or start it with ATELIER_HOSTS set to the names that it shall serve.",
    )


def check_origin(request: Request) -> None:
    """Refuses a request that another site made the browser send. Raises `Refused`.

    Browsers say where a request comes from in the header Sec-Fetch-Site or, without encryption, in Origin. Programs
    send neither and are let through, since they could send any header.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site:
        foreign = site not in ("same-origin", "none")
    elif origin:
        own = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
        foreign = not _netloc(origin) or _netloc(origin) not in own
    else:
        foreign = False
    if foreign:
        raise Refused(403, "This request came from another site, so it was not carried out.")
    form = request.headers.get("content-type", "").split(";")[0].strip().lower()
    simple = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
    if form in simple and OWN_HEADER not in request.headers:
        raise Refused(415, "Send JSON as application/json, or TOML as application/toml.")


async def read_body(request: Request) -> bytes:
    """The body of a request. Raises `Refused` when it is larger than `LARGEST_BODY`."""
    size = request.headers.get("content-length", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20 and int(size) <= LARGEST_BODY):
        raise Refused(413, f"The request is too large: {LARGEST_BODY // 1024} KB at most.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Refused(413, f"The request is too large: {LARGEST_BODY // 1024} KB at most.")
    return bytes(body)


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `Refused`, and `AtelierError` when it is too large for settings."""
    try:
        content = json.loads(body, parse_int=_integer, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise Refused(400, 'The body must be a JSON object, such as {"settings": {"output_name": "my_cat"}}.')
    check_size(content, "The body")
    return content


def check_sample_name(name: str) -> str:
    """`name`, if a record can have a sample picture of that name. Raises `Refused`."""
    if not _SAMPLE_FILE.fullmatch(name):
        raise Refused(404, "There is no such picture.")
    return name


def check_settings_paths(settings: Settings, folders: Iterable[Path]) -> None:
    """Refuses settings that name a path outside `folders`, or a class to import. Raises `Refused`."""
    allowed = [folder.resolve() for folder in folders]
    for key, path in named_paths(settings):
        _check_path(key, path, allowed)
    for key in named_classes(settings):
        raise Refused(403, f"{labelled(key)} names a Python class. {CLOSED}")
    for key in named_addresses(settings):
        raise Refused(403, f"{labelled(key)} names an address that this machine would call. {CLOSED}")


def check_dataset_paths(datasets: DatasetConfig, folders: Iterable[Path]) -> None:
    """Refuses datasets that name a path outside `folders`. Raises `Refused`."""
    allowed = [folder.resolve() for folder in folders]
    for subset in datasets.subsets:
        for key in ("image_dir", "metadata_file", "conditioning_data_dir"):
            _check_path(key, getattr(subset, key), allowed)


CLOSED = "This WebUI is open to the network without a login, so only its own folders may be used. Set a login."


def _check_path(key: str, text: str | None, allowed: list[Path]) -> None:
    if not text:
        return
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Refused(400, f"{labelled(key)} is not a path: {error}.") from error
    if not any(folder == path or folder in path.parents for folder in allowed):
        raise Refused(403, f"{labelled(key)} is outside the WebUI's folders. {CLOSED}")


def _host_name(header: str) -> str:
    """ "[::1]:7860" -> "::1", "Localhost:7860" -> "localhost"."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _known_hosts() -> set[str]:
    return {name.strip().lower() for name in os.environ.get("ATELIER_HOSTS", "").split(",")} - {""}


def _netloc(origin: str) -> str:
    """ "" for one that cannot be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
