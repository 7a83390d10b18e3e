"""Settings that name folders, files, Python classes or addresses that the machine which trains would use.

A server guards them.
"""

from __future__ import annotations

from atelier.config.sample_prompts import named_file
from atelier.config.settings.schema import Settings

PATH_SETTINGS = (
    "train_data_dir",
    "reg_data_dir",
    "conditioning_data_dir",
    "pretrained_model_name_or_path",
    "vae",
    "network_weights",
    "base_weights",
    "output_dir",
    "resume",
    "in_json",
)
PRIVATE_SETTINGS = ("webhook_url",)
"""Settings that may hold a secret, so that nobody else is shown them."""
CODE_SETTINGS = ("optimizer_type", "lr_scheduler_type", "network_module")
"""Settings that may name a Python class to import."""
_OURS = ("networks.lora", "lycoris.kohya")


def named_paths(settings: Settings) -> list[tuple[str, str]]:
    """A pair (key, path) for each path that a setting names."""
    found = []
    for key in PATH_SETTINGS:
        value = getattr(settings, key)
        found += [(key, str(path)) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    prompts = named_file(settings.sample_prompts)
    if prompts is not None:
        found.append(("sample_prompts", prompts))
    for argument in settings.network_args or ():
        name, _, value = str(argument).partition("=")
        if name.strip() == "preset" and value.strip().lower().endswith(".toml"):
            found.append(("network_args", value.strip()))
    return found


def named_addresses(settings: Settings) -> list[str]:
    """The keys of the settings that name an address in the network."""
    return ["webhook_url"] if settings.webhook_url else []


def named_classes(settings: Settings) -> list[str]:
    """The keys of the settings that name a Python class."""
    texts = {key: str(getattr(settings, key) or "") for key in CODE_SETTINGS}
    return [key for key, text in texts.items() if "." in text and text not in _OURS]
