"""Hosts: the contract with a WebUI, and one folder per WebUI. A folder that offers a `WEBUI` is found by itself."""
