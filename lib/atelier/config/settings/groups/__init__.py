"""The settings themselves, a file for each group of the tab."""
