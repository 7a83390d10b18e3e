"""The extension as a whole: installed, started, used in a browser."""
