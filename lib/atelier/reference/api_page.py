"""docs/api.md: what it says of the routes is made from the routes; the rest is written by hand."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute

from atelier.reference.markdown import code, table
from atelier.ui.server.routes import PREFIX, register

BEGIN = '<!-- Made by "python run.py docs" from lib/atelier/ui/server/routes.py: change it there. -->'
END = "<!-- End of what is made. -->"
_BODIES = {"application/json": "JSON", "application/toml": "TOML"}


def with_routes(page: str) -> str:
    """The page with what is between its marks made anew. Raises ValueError when they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("docs/api.md has lost the marks between which the routes stand.")
    return f"{before}{BEGIN}\n{chr(10).join(_lines())}\n{END}{after}"


def routes() -> list[APIRoute]:
    """Every route, in the order in which they are declared."""
    app = FastAPI()
    register(app, cast(Any, None), cast(Any, None))
    return list(app.state.atelier_routes)


def _lines() -> Iterator[str]:
    known = routes()
    rows = [(code(_name(route)), _asked(route), route.response_description, _access(route)) for route in known]
    yield from table(("Route", "Asked with", "Answer", "Access"), rows)
    for route in known:
        yield ""
        yield f"### {route.summary}"
        yield f"`{_name(route)}`"
        yield ""
        yield route.description


def _name(route: APIRoute) -> str:
    return f"{_method(route)} {route.path.removeprefix(PREFIX)}"


def _method(route: APIRoute) -> str:
    return next(iter(route.methods or {"GET"}))


def _asked(route: APIRoute) -> str:
    """What stands behind the question mark, with what counts without, and the body."""
    query = [
        f"{code(name)} ({code(repr(value.default))})".replace("'", '"')
        for name, value in inspect.signature(route.endpoint).parameters.items()
        if value.default is not inspect.Parameter.empty
    ]
    bodies = ((route.openapi_extra or {}).get("requestBody") or {}).get("content") or {}
    body = [f"a body of {' or '.join(_BODIES[kind] for kind in bodies)}"] if bodies else []
    return ", ".join([*query, *body]) or "nothing"


def _access(route: APIRoute) -> str:
    return "the WebUI's login; not from another site" if _method(route) != "GET" else "the WebUI's login"
