"""Predicts the memory that a run will need, for the page, without making the page wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from atelier.config.job import JobConfig
from atelier.hosts.contract import Host
from atelier.jobs.queue import Jobs

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that an answer to the page waits. When a prediction takes longer, the page asks for it again later."""


class MemoryLine:
    """The sentences of a job's memory plan. One prediction is computed at a time; the newest question comes next."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asked: tuple[JobConfig, list[tuple[int, int]]] | None = None
        self._working = False
        self._changed = threading.Condition()
        self.newest: str | None = ""
        """The sentences for the newest job; None while they are being computed, "" when they cannot be known."""

    @classmethod
    def of(cls, jobs: Jobs, host: Host) -> MemoryLine:
        """The memory line of a queue of runs, shared by the tab and the routes."""
        return jobs.for_page.setdefault("memory line", cls(host))

    def about(self, job: JobConfig, sizes: Sequence[tuple[int, int]]) -> str | None:
        """`newest`, after a short wait, for `job` with pictures of these `sizes`, each (width, height) in pixels."""
        with self._changed:
            self._asked, self.newest = (job, list(sizes)), None
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="atelier-memory", daemon=True).start()
            self._changed.wait_for(lambda: self.newest is not None, PATIENCE)
            return self.newest

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._asked is None:
                    self._working = False
                    return
                job, sizes = self._asked
                self._asked = None
            found = self._sentences(job, sizes)
            with self._changed:
                if self._asked is None:
                    self.newest = found
                    self._changed.notify_all()

    def _sentences(self, job: JobConfig, sizes: list[tuple[int, int]]) -> str:
        from atelier.training.memory.for_run import memory_lines

        try:
            return " ".join(memory_lines(job, self._host, sizes))
        except Exception as error:  # noqa: BLE001 - advice that cannot be given is left out; the log says why
            log.info("the memory of a step could not be predicted: %s", error)
            return ""
