"""What a run will need of the device's memory, for the page, without letting the page wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from atelier.config.job import JobConfig
from atelier.hosts.contract import Host

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that the page waits; for a prediction that takes longer it asks again."""


class MemoryLine:
    """The sentences of a job's memory plan. One prediction is worked out at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._worker: threading.Thread | None = None

    def about(self, job: JobConfig, sizes: Sequence[tuple[int, int]]) -> str | None:
        """For pictures of `sizes` (width, height) each; None while it is worked out, "" when it cannot be known."""
        if self._worker is not None and self._worker.is_alive():
            return None
        found: list[str] = []
        self._worker = threading.Thread(target=self._work_out, args=(job, list(sizes), found), daemon=True)
        self._worker.start()
        self._worker.join(PATIENCE)
        return None if self._worker.is_alive() else " ".join(found)

    def _work_out(self, job: JobConfig, sizes: list[tuple[int, int]], found: list[str]) -> None:
        from atelier.training.memory_run import memory_lines

        try:
            found += memory_lines(job, self._host, sizes)
        except Exception as error:  # noqa: BLE001 - advice that cannot be given is left out; the log says why
            log.info("the memory of a step could not be predicted: %s", error)
