"""What is said of the WebUIs that can, and cannot, use a kind of adapter."""

from __future__ import annotations

import pytest

from atelier.adapters.config import NetworkConfig
from atelier.adapters.usable import WEBUIS, here, kind_remark, kind_text, usable_text
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings


def network(text: str) -> NetworkConfig:
    return NetworkConfig(module="lycoris.kohya", arguments=dict(pair.split("=") for pair in text.split()))


@pytest.mark.parametrize(
    ("arguments", "troubled"),
    [
        ("algo=locon", ""),
        ("algo=loha", ""),
        ("algo=lokr", ""),
        ("algo=lokr use_tucker=True", "forge neo reforge"),
        ("algo=lokr use_tucker=True preset=attn-mlp", ""),
        ("algo=dora", ""),
        ("algo=lora dora_wd=True", "a1111 forge neo reforge"),
        ("algo=loha dora_wd=True", "a1111 forge neo reforge"),
        ("algo=lokr dora_wd=True wd_on_output=False", ""),
        ("algo=ia3 preset=ia3", "forge neo reforge"),
        ("algo=ia3", "a1111 forge neo reforge sdnext"),
        ("algo=diag-oft", "forge sdnext"),
        ("algo=diag-oft constraint=0.01", "forge neo reforge"),
        ("algo=diag-oft constraint=0.01 rescaled=True", "forge neo reforge sdnext"),
        ("algo=boft", "forge sdnext"),
    ],
)
def test_each_webui_is_told_of_what_it_does_not_use(arguments: str, troubled: str) -> None:
    config = network(arguments)
    assert " ".join(name for name in WEBUIS if here(config, name)) == troubled
    for name, title in WEBUIS.items():
        text = usable_text(config, name)
        assert text.startswith(f"This WebUI ({title})") == (name in troubled.split())
        assert all(other in text for other in WEBUIS.values() if troubled)
    assert here(config, "embedded") is None


def test_the_present_webui_comes_first_with_what_helps() -> None:
    assert usable_text(network("algo=ia3 preset=ia3"), "forge") == (
        "This WebUI (Forge) does not load (IA)³ files; it would be without effect here. Forge Neo and reForge do not "
        "load (IA)³ files. AUTOMATIC1111 and SD.Next load it."
    )
    assert usable_text(network("algo=lora dora_wd=True"), "sdnext") == (
        "AUTOMATIC1111, Forge, Forge Neo and reForge do not reproduce DoRA on outputs (wd_on_output=False in More "
        "arguments (network_args), which every WebUI applies exactly). SD.Next loads it."
    )
    assert "pictures would differ here" in str(here(network("algo=lora dora_wd=True"), "a1111"))
    everyone = "AUTOMATIC1111, Forge, Forge Neo, reForge and SD.Next"
    assert usable_text(network("algo=loha"), "forge") == f"LoHa: {everyone} load it."


def test_nothing_is_said_of_a_plain_lora_or_a_whole_model() -> None:
    assert kind_text(Settings(), "forge") == "" and kind_remark(Settings(), "forge") is None
    settings = Settings(network_module="lycoris.kohya", network_args=["algo=boft"])
    assert "Forge" in str(kind_remark(settings, "forge"))
    assert kind_remark(settings.replace(train_whole_model=True), "forge") is None
    assert kind_text(settings.replace(train_whole_model=True), "forge") == ""


def test_a_kind_that_cannot_be_trained_is_named() -> None:
    with pytest.raises(AtelierError, match="algo=glora cannot be trained"):
        usable_text(network("algo=glora"), "forge")
