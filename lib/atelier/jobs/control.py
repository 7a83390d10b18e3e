"""Requests of the person to a run (stop, pause, save, sample). The trainer reads them between two steps."""

from __future__ import annotations

import threading


class Control:
    """The requests to one run. A stop cannot be undone, and it ends a pause."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests = 0
        self._stopping = False
        self._hurried = False
        self._paused = False
        self._save = False
        self._sample = False

    # -- the page --------------------------------------------------------------------------------------------------

    def stop(self, at_once: bool = False) -> None:
        """Asks the run to end after its current step and to keep what was learned; `at_once` without last samples."""
        with self._changed:
            self._stopping = True
            self._hurried |= at_once
            self._paused = False
            self._notify()

    def pause(self) -> None:
        """Asks the run to free the device and wait. Does nothing to a run that is stopping."""
        with self._changed:
            self._paused = not self._stopping
            self._notify()

    def resume(self) -> None:
        """Asks a paused run to go on."""
        with self._changed:
            self._paused = False
            self._notify()

    def save_now(self) -> None:
        """Asks for a file of the LoRA as it is now."""
        with self._changed:
            self._save = True
            self._notify()

    def sample_now(self) -> None:
        """Asks for sample pictures with the LoRA as it is now."""
        with self._changed:
            self._sample = True
            self._notify()

    # -- the trainer -----------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """True once a stop was asked for."""
        return self._stopping

    @property
    def hurried(self) -> bool:
        """True when the run shall end without drawing its last samples."""
        return self._hurried

    @property
    def asked(self) -> str:
        """ "save" or "sample" while the trainer has yet to do what was asked for, else ""."""
        return "save" if self._save else "sample" if self._sample else ""

    @property
    def paused(self) -> bool:
        """True while the run is asked to pause."""
        return self._paused

    def take_save(self) -> bool:
        """True when a save was asked for since the last call."""
        with self._changed:
            taken, self._save = self._save, False
            return taken

    def take_sample(self) -> bool:
        """True when sample pictures were asked for since the last call."""
        with self._changed:
            taken, self._sample = self._sample, False
            return taken

    def wait_while_paused(self, timeout: float | None = None) -> None:
        """Returns when the pause ends, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._paused, timeout)

    def wait_for_request(self, timeout: float | None = None) -> None:
        """Returns at the next request, at once when the run is asked to stop, or after `timeout` seconds."""
        with self._changed:
            seen = self._requests
            self._changed.wait_for(lambda: self._stopping or self._requests != seen, timeout)

    def _notify(self) -> None:
        self._requests += 1
        self._changed.notify_all()
