"""The line that says what Train would train on."""

from __future__ import annotations

from atelier.hosts.contract import Host
from atelier.hosts.powers import LoadsChosen


def model_line(host: Host) -> str:
    """What a run started now would be trained on, or why none can be, as a sentence."""
    model = host.loaded_model()
    if model is None and isinstance(host, LoadsChosen):
        return "Train loads the checkpoint that is chosen at the top of the page."
    if model is None:
        return "No model is loaded."
    return model.refusal or f"Trains on {model.title}."
