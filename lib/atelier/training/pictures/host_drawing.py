"""Turns failures of the host's own sampler into a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from atelier.config.errors import AtelierError
from atelier.hosts.contract import Host

log = logging.getLogger(__name__)


@contextmanager
def host_draws(host: Host, what: str) -> Iterator[None]:
    """Use it around `host.sample`: any failure becomes an `AtelierError`, in which the picture is called `what`."""
    try:
        yield
    except AtelierError:
        raise
    except Exception as error:  # the host's own code may raise anything
        log.exception("the host could not draw %s", what)
        raise AtelierError(f"{host.name} could not draw {what} ({type(error).__name__}: {error}).") from error
