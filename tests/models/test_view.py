"""Views: the donor's memory, none of its parameters, hooks or flags; random numbers untouched."""

from __future__ import annotations

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.models.text.clip_names import canonical
from atelier.models.views.view import alias, view, view_of, view_parts
from tests.support.models_tiny import FAMILY_NAMES, modules_of, tiny_parts


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_view_shares_every_tensor_and_no_parameter(family: str) -> None:
    donor = tiny_parts(family)
    before = torch.get_rng_state()
    borrowed = view_parts(donor)
    assert torch.equal(torch.get_rng_state(), before)
    for part, module in modules_of(donor).items():
        theirs = dict(module.named_parameters())
        ours = dict(modules_of(borrowed)[part].named_parameters())
        assert theirs.keys() == ours.keys()
        for name, parameter in ours.items():
            assert parameter.data_ptr() == theirs[name].data_ptr()
            assert parameter is not theirs[name]
            assert not parameter.requires_grad
        assert not modules_of(borrowed)[part].training


def test_flags_gradients_and_hooks_stay_with_their_owner() -> None:
    donor = tiny_parts("sd1").denoiser
    calls: list[int] = []
    donor.register_forward_hook(lambda *args: calls.append(1))
    borrowed = view_of(donor)
    borrowed.requires_grad_(True)
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 64)
    borrowed(latents, 5, encoder_hidden_states=text).sample.mean().backward()
    assert borrowed.conv_in.weight.grad is not None
    assert donor.conv_in.weight.grad is None
    assert not donor.conv_in.weight.requires_grad
    assert calls == []


def test_view_computes_the_same_bits() -> None:
    donor = tiny_parts("sdxl")
    borrowed = view_parts(donor)
    theirs = donor.family.encode(donor, ["a cat"], None, 75)
    ours = donor.family.encode(borrowed, ["a cat"], None, 75)
    assert torch.equal(theirs.hidden, ours.hidden)
    latents = torch.randn(1, 4, 8, 8)
    time = torch.tensor([7])
    assert torch.equal(
        donor.family.predict(donor, latents, time, theirs, None),
        donor.family.predict(borrowed, latents, time, ours, None),
    )


def test_alias_of_an_inference_tensor_takes_part_in_backward() -> None:
    with torch.inference_mode():
        host = torch.ones(3, 3) * 2
        shared = alias(host[1:])
    assert not shared.is_inference()
    assert shared.data_ptr() == host[1:].data_ptr()
    factor = torch.ones(3, 3, requires_grad=True)
    (factor @ shared.t()).sum().backward()
    assert torch.equal(factor.grad, torch.full((3, 3), 4.0))


def test_alias_refuses_what_has_no_memory() -> None:
    with pytest.raises(AtelierError, match="offloaded or quantised"):
        alias(torch.empty(2, device="meta"))


@pytest.mark.parametrize("with_prefix", [True, False])
def test_text_encoder_names_in_both_spellings(with_prefix: bool) -> None:
    donor = tiny_parts("sd1").text_encoders[0]
    tensors = {}
    for name, parameter in donor.named_parameters():
        long = canonical(name)
        tensors[long if with_prefix else long.removeprefix("text_model.")] = parameter
    tensors["text_model.embeddings.position_ids"] = torch.zeros(1, 77)
    borrowed = view(type(donor), donor.config, tensors)
    ids = torch.arange(77)[None]
    assert torch.equal(donor(ids).last_hidden_state, borrowed(ids).last_hidden_state)


def test_missing_surplus_and_wrong_tensors_are_named() -> None:
    donor = tiny_parts("sd1").vae
    assert donor is not None
    tensors = dict(donor.named_parameters())
    with pytest.raises(AtelierError, match=r"lacks quant_conv\.weight"):
        view(type(donor), donor.config, {k: v for k, v in tensors.items() if k != "quant_conv.weight"})
    with pytest.raises(AtelierError, match="has something, which does not belong"):
        view(type(donor), donor.config, {**tensors, "something": torch.zeros(1)})
    with pytest.raises(AtelierError, match=r"quant_conv\.bias is \[3\]"):
        view(type(donor), donor.config, {**tensors, "quant_conv.bias": torch.zeros(3)})
