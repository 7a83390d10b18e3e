"""The page with the live panel that these tests share."""

from tests.support.panel_pages import browser, page, site

__all__ = ["browser", "page", "site"]
