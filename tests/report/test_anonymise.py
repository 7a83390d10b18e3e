"""What says who, where and what is taken out of any text; what says what went wrong stays."""

from __future__ import annotations

import pytest

from atelier.report.anonymise import Anonymiser
from atelier.report.paths import place_in_code, without_paths
from atelier.report.words import PrivateWords


@pytest.fixture
def hide() -> Anonymiser:
    words = PrivateWords()
    words.add_word("janedoe", "<user>")
    words.add_word("zwx", "<trigger>")
    words.add_word("pictures/jane", "<path>")
    words.add_phrase("a portrait of Zwx in the old garden", "<prompt>")
    words.add_phrase("blurry", "<prompt>")
    return Anonymiser(words, frozenset({"Class prompt"}))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/mnt/a/b.png: the picture is gone.", "<path>: the picture is gone."),
        ("There is no folder /mnt/Jane Doe/My cat. Check it.", "There is no folder <path>. Check it."),
        ("There is no folder /mnt/My pictures/Jane Doe. Check it.", "There is no folder <path>. Check it."),
        ("The record in /mnt/my runs cannot be written (full).", "The record in <path> cannot be written (full)."),
        ("/a/b c.safetensors does not fit the model.", "<path> does not fit the model."),
        ("[Errno 2] No such file: '/mnt/Jane, or so/x y.png'", "[Errno 2] No such file: '<path>'"),
        (r"C:\Users\Jane Doe\pics\1.png: it is damaged", "<path>: it is damaged"),
        (r"'C:\\Users\\Jane Doe\\pics' is gone", "'<path>' is gone"),
        (r"\\server\share\Jane is away", "<path> is away"),
        ("PATH=/usr/bin:/home/jane/bin", "PATH=<path>"),
        ("in ~/pics and ~jane/pics", "in <path> and <path>"),
        ("/mnt/Jane's cats/x.png: gone", "<path>: gone"),
        ("It moved /a/b to /c/d e/f today.", "It moved <path> to <path>."),
        ("5/10 steps, 3 s/step, and/or <p>text</p> 1 / 2", "5/10 steps, 3 s/step, and/or <p>text</p> 1 / 2"),
    ],
)
def test_paths_end_where_the_sentence_goes_on(text: str, left: str) -> None:
    assert without_paths(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Error of janedoe on JaneDoe2", "Error of <user> on <user>2"),
        ("The trigger zwx, not zwxt or azwx", "The trigger <trigger>, not zwxt or azwx"),
        ("'a portrait of zwx, in the old garden'", "'<prompt>'"),
        ("it began: portrait of zwx in …", "it began: <prompt> …"),
        ("negative: Blurry.", "negative: <prompt>."),
        (r"in Pictures\\jane\1.png", "in <path>"),
        ("The sample picture 'my secret words' could not be drawn", "The sample picture '<text>' could not be drawn"),
        ("it can't be that it isn't", "it can't be that it isn't"),
        ("'NoneType' object has no attribute 'to'", "'NoneType' object has no attribute 'to'"),
        ('"Class prompt" is empty', '"Class prompt" is empty'),
        ('said "Jane\'s own words"', 'said "<text>"'),
        ("Jane 1.png is left out: /mnt/x/Jane 1.png: damaged", "<file> is left out: <path>: damaged"),
        ("cat_07.png and model.safetensors", "<file>.png and <file>.safetensors"),
    ],
)
def test_what_is_known_to_be_private(hide: Anonymiser, text: str, left: str) -> None:
    assert hide.text(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see https://jane.example/a?b=c#d now", "see <address> now"),
        ("mail jane.doe@mail.example.org", "mail <address>"),
        ("at 192.168.0.17:7860 and fe80::1 and ::1", "at <address> and <address> and <address>"),
        ("on tower.local and nas:8080", "on <address> and <address>"),
        ("card 12:34:56:78:9a:bc", "card <address>"),
        ("12:30:45 queue.py:10 std::vector c10::Error 1:2", "12:30:45 queue.py:10 std::vector c10::Error 1:2"),
        ("hf_abcdefgh12345678 ghp_ABCDEFGH12345678", "<token> <token>"),
        ("Authorization: Bearer abc.def", "Authorization: <token> <token>"),
        ("wandb_api_key=0123 password: 'x y'", "wandb_api_key=<token> password: <token>"),
        ("--ngrok-token=abc --gradio-auth jane:secret", "--ngrok-token=<token> --gradio-auth <token>"),
        ("hash 0123456789abcdef0123456789abcdef", "hash <token>"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", "<token>"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", None),
        ("scaled_dot_product_flash_attention_for_cpu_backward", None),
        ("token_warmup_min is 3, 77 tokens", None),
        ("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 8.00 GiB total)", None),
    ],
)
def test_addresses_and_tokens(text: str, left: str | None) -> None:
    assert Anonymiser(PrivateWords()).text(text) == (text if left is None else left)


TRACEBACK = r"""Traceback (most recent call last):
  File "/home/janedoe/sd webui/extensions/atelier/lib/atelier/jobs/queue.py", line 10, in _run
    self._train(config, self.host, record, "two words")
    ^^^^^^^^^^^^^^^^^^^
  File "C:\Users\janedoe\sd\venv\Lib\site-packages\torch\nn\module.py", line 2, in <module>
    raise ValueError(janedoe)
  File "/opt/janes own/thing.py", line 3, in f
  File "<frozen importlib._bootstrap>", line 4, in g
RuntimeError: no room in /home/janedoe/x y
and "two words" more"""


def test_a_traceback_keeps_its_places(hide: Anonymiser) -> None:
    assert hide.log(TRACEBACK).splitlines() == [
        "Traceback (most recent call last):",
        '  File "lib/atelier/jobs/queue.py", line 10, in _run',
        '    self._train(config, self.host, record, "two words")',
        "    ^^^^^^^^^^^^^^^^^^^",
        '  File "torch/nn/module.py", line 2, in <module>',
        "    raise ValueError(<user>)",
        '  File "<path>", line 3, in f',
        '  File "<frozen importlib._bootstrap>", line 4, in g',
        "RuntimeError: no room in <path>",
        'and "<text>" more',
    ]


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/usr/lib/python3.10/threading.py", "threading.py"),
        (r"C:\Python310\lib\threading.py", "threading.py"),
        ("/x/webui/modules/processing.py", "modules/processing.py"),
        ("/x/webui/extensions/other/scripts/a.py", "scripts/a.py"),
        ("/x/jane.py", "<path>"),
    ],
)
def test_places_in_code(path: str, left: str) -> None:
    assert place_in_code(path) == left
