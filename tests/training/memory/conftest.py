"""The stand-in for Forge that these tests share."""

from tests.support.forge_fakes import forge

__all__ = ["forge"]
