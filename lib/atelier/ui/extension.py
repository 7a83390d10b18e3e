"""The extension inside a WebUI: finds the host, opens its queue of runs, and builds the tab and the routes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from atelier.config.errors import AtelierError
from atelier.config.packages import Missing, missing
from atelier.hosts.contract import Host
from atelier.hosts.detect import detect
from atelier.hosts.shared.login import Login
from atelier.jobs.current import current
from atelier.jobs.queue import Jobs
from atelier.ui.server.routes import Access, register
from atelier.ui.server.security import Refused
from atelier.ui.start_line import say_once, start_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extension:
    """The host and its queue of runs, or a sentence that says why training is not possible."""

    host: Host | None
    jobs: Jobs | None
    apology: str = ""

    @classmethod
    def open(cls) -> Extension:
        """The extension, with the same runs however often the WebUI builds its page. Prints the version once."""
        found = cls._find()
        say_once(start_line(found.host))
        return found

    @classmethod
    def _find(cls) -> Extension:
        lacking = [package for package in missing() if package.required]
        if lacking:
            return cls(None, None, apology(lacking))
        try:
            host = detect()
            return cls(host, current(host))
        except AtelierError as error:
            return cls(None, None, str(error))
        except Exception as error:  # the WebUI must start, whatever fails here
            log.exception("Atelier could not start")
            return cls(None, None, f"Atelier could not start: {type(error).__name__}: {error}. See the console.")

    def tab(self, flags: Any = None) -> Any:
        """A `gr.Blocks` with the training tab."""
        import gradio as gr

        from atelier.ui.tab.tab import build

        with gr.Blocks(analytics_enabled=False) as page:
            if self.host is None or self.jobs is None:
                gr.Markdown(self.apology)
            else:
                _tell_of_reload(self.jobs)
                build(self.jobs, self.host, paths=Login(None, flags).paths)
        return page

    def add_routes(self, app: FastAPI, flags: Any) -> None:
        """Adds the routes behind the live panel. Where the WebUI has a login, they demand it too."""
        if self.host is None or self.jobs is None:
            return
        login = Login(app, flags)

        def guard(request: Request) -> None:
            if not login.lets_in(request.headers, request.cookies):
                raise Refused(401, "Log in to the WebUI first.", headers=login.challenge)

        def user(request: Request) -> str:
            return login.user(request.headers, request.cookies)

        register(app, self.jobs, self.host, Access(guard, login.paths, user, login.local))


def _tell_of_reload(jobs: Jobs) -> None:
    """Notes in the record of a run that the WebUI builds its page anew, which the run outlives."""
    running = jobs.running if jobs.for_page.get("built") else None
    jobs.for_page["built"] = True
    if running is not None:
        running.record.message("The WebUI was reloaded. The run went on.")


def apology(lacking: list[Missing]) -> str:
    """The tab's text, as Markdown, when packages that training needs are missing."""
    lines = [f"- **{package.name}** ({package.why}): `{package.command}`" for package in lacking]
    return "\n".join(
        ["Training needs packages that are not installed. Run these commands, then restart the WebUI:", "", *lines]
    )
