"""The order of the queue, kept in queue.json, so that it survives a restart of the WebUI."""

from __future__ import annotations

import logging
from pathlib import Path

from atelier.jobs.files import read_json, write_json

log = logging.getLogger(__name__)


class Order:
    """Ids of queued runs, the next one first: `ids`. Every change is written to `runs`/queue.json."""

    def __init__(self, runs: Path) -> None:
        self._file = runs / "queue.json"
        self.ids: list[str] = []

    def load(self, waiting: list[str]) -> None:
        """The order as it was kept, of the runs `waiting` alone; those that it does not know come last."""
        saved = read_json(self._file, {})
        order = saved.get("order") if isinstance(saved, dict) else None
        known = [job_id for job_id in order if job_id in waiting] if isinstance(order, list) else []
        self.ids = list(dict.fromkeys([*known, *waiting]))

    def append(self, job_id: str) -> None:
        """Puts a run at the end."""
        self.ids.append(job_id)
        self._keep()

    def remove(self, job_id: str) -> None:
        """Takes a run out; does nothing when it is not there."""
        if job_id in self.ids:
            self.ids.remove(job_id)
            self._keep()

    def _keep(self) -> None:
        try:
            write_json(self._file, {"version": 1, "order": self.ids})
        except OSError as error:  # without queue.json, queued runs are found by their records, in order of age
            log.warning("the order of the queue could not be written: %s", error)
