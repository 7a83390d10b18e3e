"""The contract with a WebUI, and one folder per WebUI; what such a folder offers as `WEBUI` is found by itself."""
