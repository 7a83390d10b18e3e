"""Drawing by the host's own sampler, whose failures become a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from atelier.config.errors import AtelierError
from atelier.hosts.contract import Host

log = logging.getLogger(__name__)


@contextmanager
def host_draws(host: Host, what: str) -> Iterator[None]:
    """Around `host.sample`: whatever fails is an `AtelierError` in which the picture is called `what`."""
    try:
        yield
    except AtelierError:
        raise
    except Exception as error:  # the host's own code, which fails in whatever way
        log.exception("the host could not draw %s", what)
        raise AtelierError(f"{host.name} could not draw {what} ({type(error).__name__}: {error}).") from error
