"""What docs/hosts.md and docs/dreambooth.md tell of running WebUIs: scripts, run by hand."""
