"""The tab and its live panel in a real Chromium."""
