"""The routes of what is kept: records that are deleted, what is on the disk, and the forms of the tab."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from atelier.hosts.contract import Host
from atelier.jobs.files import size_of
from atelier.jobs.housekeeping import UPLOADS
from atelier.jobs.queue import Jobs
from atelier.jobs.storage import CACHES, cache_sizes
from atelier.ui.server.answers import DISK, FORM, Answers, Route, about
from atelier.ui.server.form import LastForm, form_of
from atelier.ui.server.security import Access, Refused


class KeptRoutes:
    """One method per route. The docstrings are shown on the WebUI's API page."""

    def __init__(self, jobs: Jobs, host: Host, access: Access) -> None:
        self._jobs = jobs
        self._host = host
        self._access = access
        answers = Answers(jobs, access)
        self._answer, self._job = answers.give, answers.job

    def table(self) -> list[Route]:
        """The routes of this class."""
        job = "/jobs/{job_id}"
        return [
            ("DELETE", job, self.delete, about("Delete a run", "JSON: `deleted`, `freed`")),
            ("GET", job + "/form", self.form, about("The settings of a run, for the tab", FORM)),
            ("GET", "/form", self.last_form, about("What the tab held last", FORM)),
            ("GET", "/storage", self.storage, about("What is on the disk", DISK)),
            ("POST", "/storage/{cache}/clear", self.clear, about("Empty a cache", DISK + ", `freed`")),
        ]

    async def delete(self, request: Request, job_id: str) -> Response:
        """Deletes the record of a run that has ended: its states, samples, losses and log. LoRAs and checkpoints that
        it saved stay. `freed` is in bytes.
        """

        def work() -> dict[str, Any]:
            job = self._job(job_id)
            if not job.deletable:
                raise Refused(409, f"{job.name} cannot be deleted now: it is {job.state}. Stop it first.")
            return {"deleted": job.id, "freed": self._jobs.delete(job.id)}

        return await self._answer(request, work, changes=True)

    async def storage(self, request: Request) -> Response:
        """What Atelier takes on the disk, in bytes: the records of all runs, each cache, and dropped pictures."""
        return await self._answer(request, self._storage)

    async def clear(self, request: Request, cache: str) -> Response:
        """Empties a cache: `latents`, `text` or `class_pictures`. All of it is made again when a run needs it. Refused
        with 409 while a run trains. `freed` is in bytes.
        """

        def work() -> dict[str, Any]:
            if cache not in CACHES:
                raise Refused(404, f"There is no cache {cache!r}. There are {', '.join(CACHES)}.")
            running = self._jobs.running
            if running is not None:
                raise Refused(409, f"{running.name} is using it. Clear it when no run trains.")
            freed = self._jobs.clear_cache(cache)
            return {"freed": freed, **self._storage()}

        return await self._answer(request, work, changes=True)

    async def last_form(self, request: Request) -> Response:
        """What the tab held last, by the keys of its settings, as its fields hold it: texts, and true or false.

        Passwords are never kept, and neither are folders where the page is open to the network without a login.
        `imported` has the datasets of a file that was read. `values` is null when nothing is known.
        """

        def work() -> dict[str, Any]:
            user = self._access.user(request) if self._access.user else ""
            known = LastForm.of(self._jobs, self._host).read(self._access.paths, user)
            return known.as_json() if known else {"values": None, "caption_from_name": False, "imported": {}}

        return await self._answer(request, work)

    async def form(self, request: Request, job_id: str) -> Response:
        """The settings of a run as the fields of the tab hold them, to start such a run again."""

        def work() -> dict[str, Any]:
            return form_of(self._job(job_id).config, self._access.paths).as_json()

        return await self._answer(request, work)

    def _storage(self) -> dict[str, Any]:
        folders = self._host.folders
        return {
            "runs": sum(job.size for job in self._jobs.jobs()),
            "caches": cache_sizes(folders.cache),
            "dropped": size_of(folders.runs / UPLOADS),
        }
