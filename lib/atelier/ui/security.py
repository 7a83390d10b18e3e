"""What a request must be before a route does anything: ours, small, and without a path where a name is due."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from atelier.config.names import name_problem

LARGEST_BODY = 2**20
"""Bytes of a request's body; settings and TOML are far smaller."""
OWN_HEADER = "x-atelier"
"""Our page sends it. A form or a picture on another site cannot; a script there would need a permission we never give."""


class Refused(Exception):
    """A request that is not served. `status` is the HTTP status, the text a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_origin(request: Request) -> None:
    """Refuses what another site made a browser send.

    Programs without a browser send no Origin and are let through: they could send any header anyway.
    """
    site = request.headers.get("sec-fetch-site")
    if site and site not in ("same-origin", "none"):
        raise Refused(403, "This request came from another site; it was not carried out.")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refused(403, "This request came from another site; it was not carried out.")
    form = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if form in ("application/x-www-form-urlencoded", "multipart/form-data") or (
        form == "text/plain" and OWN_HEADER not in request.headers
    ):
        raise Refused(415, "Send JSON (application/json) or TOML (application/toml).")


async def read_body(request: Request) -> bytes:
    """The body, if it is no larger than `LARGEST_BODY`."""
    size = request.headers.get("content-length", "0")
    if not size.isdigit() or int(size) > LARGEST_BODY:
        raise Refused(413, "The request is too large.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Refused(413, "The request is too large.")
    return body


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body."""
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise Refused(400, "The body must be a JSON object.")
    return content


def check_file_name(name: str) -> str:
    """`name`, if it is a plain file name."""
    if name_problem(name.rsplit(".", 1)[0]) or "/" in name or "\\" in name:
        raise Refused(404, "There is no such file.")
    return name
