"""The stand-in for SD.Next that these tests share."""

from tests.support.sdnext_fakes import sdnext

__all__ = ["sdnext"]
