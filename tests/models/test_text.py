"""Prompt encoding: chunks, clip skip, the families' layers, pooled states, emphasis."""

from __future__ import annotations

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.models.assets import load_tokenizers
from atelier.models.family import Parts
from atelier.models.text.clip_names import body
from atelier.models.text.emphasis import parse_emphasis
from atelier.models.text.encode import chunked, joined, needed_length, token_ids, weighted_token_ids
from tests.support.models_tiny import tiny_parts

BOS, EOS = 49406, 49407
LONG = " ".join(["cat"] * 100)


@pytest.fixture(scope="module")
def sd1() -> Parts:
    return tiny_parts("sd1")


@pytest.fixture(scope="module")
def sdxl() -> Parts:
    return tiny_parts("sdxl")


def test_long_captions_are_dealt_out_in_chunks(sd1: Parts) -> None:
    ids = token_ids(sd1.tokenizers[0], [LONG, "a cat"], 150)
    assert ids.shape == (2, 2, 77)
    assert ids[0, :, 0].tolist() == [BOS, BOS]
    assert ids[0, :, -1].tolist() == [EOS, EOS]
    cat = int(ids[0, 0, 1])
    assert int((ids[0] == cat).sum()) == 100
    assert int((ids[1, 1] == EOS).sum()) == 76


def test_a_tokenizer_with_padding_of_its_own_ends_every_chunk_once() -> None:
    first, second = load_tokenizers("sdxl")
    assert (first.pad_token_id, second.pad_token_id) == (EOS, 0)
    ids = token_ids(second, ["a cat", LONG], 150)
    assert ids[0, 0, :5].tolist()[3:] == [EOS, 0]
    assert ids[0, 1, :3].tolist() == [BOS, EOS, 0]
    assert int(ids[1, 0, -1]) == EOS
    assert int((ids[1, 1] == EOS).sum()) == 1


def test_one_chunk_is_the_tokenizer_s_own() -> None:
    tokenizer = load_tokenizers("sd1")[0]
    plain = tokenizer(["a cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert torch.equal(token_ids(tokenizer, ["a cat"], 75)[:, 0], plain)
    assert torch.equal(chunked(plain, EOS, EOS)[:, 0], plain)


@pytest.mark.parametrize(("length", "positions"), [(75, 77), (150, 152), (225, 227)])
def test_states_of_every_length(sd1: Parts, length: int, positions: int) -> None:
    states = sd1.family.encode(sd1, ["a cat", LONG], None, length)
    assert states.hidden.shape == (2, positions, 64)
    assert states.pooled is None
    assert torch.isfinite(states.hidden).all()


def test_joined_keeps_the_outer_ends_and_all_tokens() -> None:
    states = torch.arange(2 * 77.0).reshape(1, 2, 77, 1)
    line = joined(states)[0, :, 0]
    assert line[0] == 0 and line[-1] == 153
    assert line[1:76].tolist() == list(range(1, 76))
    assert line[76:151].tolist() == list(range(78, 153))


def test_a_length_that_does_not_exist_is_refused(sd1: Parts) -> None:
    for weighted in (False, True):
        with pytest.raises(AtelierError, match=r"Caption length \(max_token_length\) is 80"):
            sd1.family.encode(sd1, ["a cat"], None, 80, weighted)


def test_clip_skip_takes_an_earlier_layer_and_the_final_norm(sd1: Parts) -> None:
    encoder = sd1.text_encoders[0]
    ids = token_ids(sd1.tokenizers[0], ["a cat"], 75)[:, 0]
    out = encoder(input_ids=ids, output_hidden_states=True)
    last = sd1.family.encode(sd1, ["a cat"], None, 75).hidden
    assert torch.equal(last, out.last_hidden_state)
    assert torch.equal(sd1.family.encode(sd1, ["a cat"], 1, 75).hidden, last)
    second = sd1.family.encode(sd1, ["a cat"], 2, 75).hidden
    assert torch.equal(second, body(encoder).final_layer_norm(out.hidden_states[-2]))
    assert not torch.equal(second, last)
    with pytest.raises(AtelierError, match="has 3 layers"):
        sd1.family.encode(sd1, ["a cat"], 4, 75)


def test_sdxl_puts_both_encoders_side_by_side_and_pools_the_second(sdxl: Parts) -> None:
    states = sdxl.family.encode(sdxl, ["a cat", "a dog"], None, 75)
    assert states.hidden.shape == (2, 77, 128)
    assert states.pooled is not None and states.pooled.shape == (2, 64)
    for index, encoder in enumerate(sdxl.text_encoders):
        ids = token_ids(sdxl.tokenizers[index], ["a cat", "a dog"], 75)[:, 0]
        out = encoder(input_ids=ids, output_hidden_states=True)
        assert torch.equal(states.hidden[..., 64 * index : 64 * (index + 1)], out.hidden_states[-2])
    # The pooled state is the projected, normed last state at the EOS, which follows BOS and two tokens.
    pooled = sdxl.text_encoders[1].text_projection(out.last_hidden_state[:, 3])
    assert torch.allclose(states.pooled, pooled, atol=1e-6)
    for skip in (1, 2):
        assert torch.equal(sdxl.family.encode(sdxl, ["a cat", "a dog"], skip, 75).hidden, states.hidden)


def test_sdxl_pools_the_first_chunk(sdxl: Parts) -> None:
    short = sdxl.family.encode(sdxl, ["a cat"], None, 75)
    long = sdxl.family.encode(sdxl, ["a cat"], None, 225)
    assert long.hidden.shape == (1, 227, 128)
    assert short.pooled is not None and long.pooled is not None
    assert torch.allclose(short.pooled, long.pooled, atol=1e-6)


@pytest.mark.parametrize(
    ("caption", "pieces"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("a [red] cat", [("a ", 1.0), ("red", 1 / 1.1), (" cat", 1.0)]),
        ("(red:1.5) cat", [("red", 1.5), (" cat", 1.0)]),
        ("(a: b:0.5)", [("a: b", 0.5)]),
        (r"\(red\) :)", [("(red) :)", 1.0)]),
        ("(open cat", [("open cat", 1.1)]),
        ("cat]", [("cat]", 1.0)]),
        ("[a:1.2)", [("a:1.2)", 1 / 1.1)]),
        ("", []),
    ],
)
def test_emphasis_is_read(caption: str, pieces: list[tuple[str, float]]) -> None:
    assert parse_emphasis(caption) == [(text, pytest.approx(weight)) for text, weight in pieces]


def test_nested_emphasis_multiplies() -> None:
    assert parse_emphasis("((a) b:2)") == [("a", pytest.approx(2.2)), (" b", pytest.approx(2.0))]


def test_emphasis_scales_exactly_its_tokens(sd1: Parts) -> None:
    plain = sd1.family.encode(sd1, ["a red cat"], None, 75).hidden
    strong = sd1.family.encode(sd1, ["a (red:1.5) cat"], None, 75, weighted=True).hidden
    factor = (strong / plain).mean(-1)[0]
    expected = torch.ones(77)
    expected[2] = 1.5
    assert torch.allclose(factor, expected, atol=1e-4)


def test_weighted_ids_without_emphasis_are_the_plain_ones() -> None:
    for tokenizer in load_tokenizers("sdxl"):
        for length in (75, 150, 225):
            ids, weights = weighted_token_ids(tokenizer, ["a cat", LONG, ""], length)
            assert torch.equal(ids, token_ids(tokenizer, ["a cat", LONG, ""], length))
            assert torch.equal(weights, torch.ones(3, length + 2))


def test_the_least_length_that_cuts_nothing() -> None:
    tokenizers = load_tokenizers("sd1")
    assert needed_length(tokenizers, ["a cat"]) == 75
    assert needed_length(tokenizers, ["a cat", LONG]) == 150
    assert needed_length(tokenizers, [LONG * 4]) == 225
