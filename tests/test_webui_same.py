"""In a running WebUI: the lent parts compute what the WebUI's own compute, from the same memory."""

from __future__ import annotations

import pytest
from webui_hosts import WebUI
from webui_probe import probed

pytestmark = [pytest.mark.webui, pytest.mark.browser]

SCRIPT = """
import torch
from modules import script_callbacks


def own_parts(roots):
    unet = vae = text = None
    for root in roots:
        for module in root.modules():
            kind = type(module).__name__
            if kind in ("UNetModel", "IntegratedUNet2DConditionModel", "UNet2DConditionModel"):
                unet = unet or module
            if kind.startswith(("AutoencoderKL", "AutoencodingEngine", "IntegratedAutoencoderKL")):
                vae = vae or module
            if kind.startswith("CLIPTextModel") or kind.endswith("CLIPTextModel"):
                text = text or module
    return unet, vae, text


def largest(one, other):
    return {{"difference": float((one - other).abs().max()), "scale": float(one.abs().max())}}


def same():
    from atelier.hosts.detect import detect

    {model_code}
    {roots_code}
    unet, vae, text = own_parts(roots)
    own = {{value.untyped_storage().data_ptr() for root in roots for value in root.parameters()}}
    lease = detect().lease(frozenset(("unet", "text_encoder", "vae")))
    with lease as parts, lease.turn(), torch.no_grad():
        draws = torch.Generator().manual_seed(0)
        latents = torch.randn(2, 4, 8, 8, generator=draws)
        picture = torch.randn(1, 3, 64, 64, generator=draws).clamp(-1, 1)
        states = torch.randn(2, 77, parts.unet.config.cross_attention_dim, generator=draws)
        timesteps = torch.tensor([20, 700])
        ids = torch.tensor([[49406, 320, 736, 7117] + [49407] * 73])
        ours = parts.unet(latents, timesteps, encoder_hidden_states=states).sample
        if hasattr(unet, "config") and hasattr(unet, "conv_in"):
            theirs = unet(latents, timesteps, encoder_hidden_states=states).sample
        else:
            theirs = unet(latents, timesteps, context=states)
        found = {{"unet": largest(theirs, ours)}}
        our_mean = parts.vae.encode(picture).latent_dist.mean
        found["vae"] = largest(vae.quant_conv(vae.encoder(picture)).chunk(2, 1)[0], our_mean)
        found["text"] = largest(text(ids)[0], parts.text_encoders[0](ids)[0])
        for name, modules in (("unet", [parts.unet]), ("vae", [parts.vae]), ("text", parts.text_encoders)):
            lent = [value for module in modules for value in module.parameters()]
            found[name]["tensors"] = len(lent)
            found[name]["shared"] = sum(value.untyped_storage().data_ptr() in own for value in lent)
        found["text_dtypes"] = sorted({{str(value.dtype) for value in text.parameters()}})
        return found


script_callbacks.on_app_started(
    lambda page, app: app.add_api_route("/atelier-test-same", same, methods=["GET"])
)
"""


def test_the_lent_parts_compute_the_same(webui: WebUI, capsys: pytest.CaptureFixture[str]) -> None:
    webui.draw(steps=1)
    with probed(webui, SCRIPT):
        found = webui.ask("/atelier-test-same")
    assert found.status == 200, found
    with capsys.disabled():
        print(f"\n{webui.kind.name}:", dict(found))
    for part in ("unet", "vae", "text"):
        assert found[part]["difference"] <= 1e-4 * max(found[part]["scale"], 1.0), part
        # A processor computes no half precision: a text encoder that the WebUI keeps so is computed in a copy there.
        if part != "text" or found["text_dtypes"] == ["torch.float32"]:
            assert found[part]["shared"] == found[part]["tensors"] > 0, part
