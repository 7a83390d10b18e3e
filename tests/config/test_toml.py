"""Training TOML: sections, kinds, bounds, lines in errors, the command line, and what kohya's names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.config.errors import AtelierError, SettingsError
from atelier.config.imports.loading import load_job
from atelier.config.kohya.document import parse_document
from atelier.config.kohya.toml_in import read_settings, settings_from


def read(text: str, **overrides: str):  # type: ignore[no-untyped-def]
    return settings_from(parse_document(text, "my.toml"), overrides)


def problems(text: str, **overrides: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text, **overrides)
    return [str(problem) for problem in caught.value.problems]


def test_sections_mean_nothing() -> None:
    settings = read('seed = 1\n[anything]\noutput_name = "x"\n["with space"]\nunet_lr = 2e-4')
    assert (settings.seed, settings.output_name, settings.unet_lr) == (1, "x", 2e-4)


def test_what_is_left_out_is_what_sd_scripts_would_take() -> None:
    settings = read('output_name = "x"')
    assert settings.network_alpha == 1.0 and settings.network_dim == 4 and settings.learning_rate == 2e-6
    assert settings.enable_bucket is False and settings.save_precision == "float"


def test_unknown_keys_are_named_with_line_and_neighbour() -> None:
    text = '# learning_rte = 1\noutput_name = "x"\n\n  learning_rte = 1e-4\n'
    reading = read_settings(parse_document(text, "my.toml"))
    assert reading.problems == [] and reading.notes == [
        "my.toml, line 4: learning_rte is 0.0001; it is not known and is ignored; did you mean learning_rate?"
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('learning_rate = "fast"', "it must be a number"),
        ("learning_rate = true", "it must be a number"),
        ("learning_rate = nan", "it must be a finite number"),
        ("learning_rate = -1.0", "it must be at least 0"),
        ("network_dim = 8.5", "it must be a whole number"),
        ("network_dim = [1, 2]", "it must be a whole number"),
        ("network_dim = inf", "it must be a whole number"),
        ("network_dim = 0", "it must be at least 1"),
        ("network_dim = 5000", "it must be at most 1024"),
        ('enable_bucket = "perhaps"', "it must be true or false"),
        ("enable_bucket = 3", "it must be true or false"),
        ('loss_type = "l3"', "it can be l2, l1, huber, smooth_l1"),
        ("max_token_length = -75", "it can be 75, 150, 225, or empty"),
        ('resolution = "wide"', "write one side (512) or WIDTH,HEIGHT"),
        ("resolution = [4, 4]", "between 8 and 8192"),
        ("output_name = true", "it must be text"),
        ('network_args = ["rank_dropout"]', "it must be key=value"),
        ('network_args = ["conv_dim=many"]', "conv_dim must be a number"),
        ('network_args = ["rank_dropout=1.0"]', "is 'rank_dropout=1.0'; it must be at least 0 and below 1"),
        ('network_args = ["module_dropout=1"]', "is 'module_dropout=1'; it must be at least 0 and below 1"),
        ('network_args = ["dropout=-0.5"]', "is 'dropout=-0.5'; it must be at least 0 and below 1"),
        ("network_dropout = 1.0", "it must be at least 0 and below 1, since at 1 nothing of the adapter is trained"),
        ('network_module = "networks.lora_flux"', "another model family"),
        ("lr_warmup_steps = 10", "constant has no warm-up"),
        ("min_timestep = 900\nmax_timestep = 100", "it must be below Last timestep (max_timestep)"),
        (
            "cache_text_encoder_outputs = true\ncaption_dropout_rate = 0.1",
            "captions cannot be dropped while Cache text (cache_text_encoder_outputs) is on",
        ),
        ("dim_from_weights = true", "it needs Go on from (network_weights)"),
    ],
)
def test_wrong_values_are_named(line: str, sentence: str) -> None:
    found = problems(line)
    assert any(sentence in problem and problem.startswith("my.toml, line") for problem in found), found


def test_all_problems_are_told_at_once() -> None:
    assert len(problems('seed = "a"\nnetwork_dim = "b"\nclip_skip = 99')) == 3


def test_numbers_in_quotes_and_flags_as_numbers_are_read() -> None:
    settings = read('learning_rate = "1e-4"\nnetwork_dim = "32"\nenable_bucket = 1\nflip_aug = "True"\nseed = 7.0')
    assert (settings.learning_rate, settings.network_dim, settings.seed) == (1e-4, 32, 7)
    assert settings.enable_bucket is True and settings.flip_aug is True


def test_a_float_warmup_stays_a_fraction_and_an_int_steps() -> None:
    part = read('lr_scheduler = "cosine"\nlr_warmup_steps = 0.1').lr_warmup_steps
    steps = read('lr_scheduler = "cosine"\nlr_warmup_steps = 100').lr_warmup_steps
    assert (part, type(part)) == (0.1, float) and (steps, type(steps)) == (100, int)
    assert read("", lr_scheduler="linear", lr_warmup_steps="0.25").lr_warmup_steps == 0.25
    assert isinstance(read("", lr_scheduler="linear", lr_warmup_steps="25").lr_warmup_steps, int)


def test_zero_means_never() -> None:
    settings = read("save_every_n_epochs = 0\nsample_every_n_steps = 0\nclip_skip = 0\nmax_train_epochs = 0")
    assert settings.save_every_n_epochs is None and settings.sample_every_n_steps is None
    assert settings.clip_skip is None and settings.max_train_epochs is None
    assert read("seed = 0\nunet_lr = 0").seed == 0
    assert read("seed = 0\nunet_lr = 0").unet_lr == 0.0


def test_rates_may_be_one_or_several() -> None:
    assert read("text_encoder_lr = 5e-5").text_encoder_lr == [5e-5]
    assert read("text_encoder_lr = [1e-5, 2e-5]").text_encoder_lr == [1e-5, 2e-5]
    assert read("", text_encoder_lr="1e-5 2e-5").text_encoder_lr == [1e-5, 2e-5]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ('["weight_decay=0.01", "betas=0.9,0.99"]', ["weight_decay=0.01", "betas=0.9,0.99"]),
        ('"weight_decay=0.01 betas=0.9,0.99"', ["weight_decay=0.01", "betas=0.9,0.99"]),
        ("['weight_decay=\"0.01\"']", ["weight_decay=0.01"]),
        ("['\"weight_decay=0.01\"']", ["weight_decay=0.01"]),
        ('"betas=(0.9, 0.99) eps=1e-8"', ["betas=(0.9,0.99)", "eps=1e-8"]),
        ('["scale_parameter=False relative_step=False", "warmup_init=False"]',
         ["scale_parameter=False", "relative_step=False", "warmup_init=False"]),
        ('""', []),
        ("[]", []),
    ],
)  # fmt: skip
def test_arguments_in_every_way_of_writing(written: str, read_as: list[str]) -> None:
    assert read(f"optimizer_args = {written}").optimizer_args == read_as


def test_conv_ranks_come_out_of_network_args() -> None:
    settings = read('network_args = ["conv_dim=8", "conv_alpha=4", "rank_dropout=0.1"]')
    assert (settings.conv_dim, settings.conv_alpha, settings.network_args) == (8, 4.0, ["rank_dropout=0.1"])


def test_old_flags_stand_for_optimisers() -> None:
    assert read("use_8bit_adam = true").optimizer_type == "AdamW8bit"
    assert read("use_lion_optimizer = true").optimizer_type == "Lion"
    assert read('use_8bit_adam = true\noptimizer_type = "Prodigy"').optimizer_type == "Prodigy"
    assert read('caption_extention = ".tags"').caption_extension == ".tags"


def test_the_command_line_wins_and_is_named_in_errors() -> None:
    assert read("network_dim = 4", network_dim="8").network_dim == 8
    assert problems("", network_dim="eight") == ["--network_dim is 'eight'; it must be a whole number."]
    assert problems("", netwrk_dim="8") == ["--netwrk_dim is '8'; there is no such key; did you mean network_dim?"]
    assert problems("network_dim = 4", network_dim="0") == ["--network_dim is 0; it must be at least 1."]


def test_keys_of_kohya_without_effect_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "10_cat").mkdir()
    (tmp_path / "a.toml").write_text(
        f"train_data_dir = '{tmp_path.as_posix()}'\nxformers = true\nlogging_dir = 'logs'\nno_token_padding = true"
    )
    job = load_job(tmp_path / "a.toml")
    assert job.extra == {"xformers": True, "logging_dir": "logs", "no_token_padding": True}
    assert len(job.notes) == 1 and job.notes[0].startswith("no_token_padding is not supported")
    assert [subset.num_repeats for subset in job.datasets.subsets] == [10]


@pytest.mark.parametrize("raw", [
    b"\xef\xbb\xbfseed = 5\r\noutput_name = \"x\"\r\n",
    "seed = 5\noutput_name = \"x\"".encode("utf-16"),
    b"seed = 5 # \xc3\xa9\n\n\n[a]\noutput_name = 'x' # y",
])  # fmt: skip
def test_any_line_ending_and_byte_order_mark(tmp_path: Path, raw: bytes) -> None:
    from atelier.config.kohya.document import read_document

    (tmp_path / "a.toml").write_bytes(raw)
    settings = settings_from(read_document(tmp_path / "a.toml"))
    assert (settings.seed, settings.output_name) == (5, "x")


@pytest.mark.parametrize("text", [
    "seed = ", "seed 5", "[a\nb=1", "a = 1\na = 2", "[a]\nx=1\n[a]\ny=1", "x = 'C:\\p\ny", "\x00", "x = 1_",
    "a.b = 1\na = 2", "x = [" * 4000,
])  # fmt: skip
def test_what_is_no_toml_is_a_sentence(text: str) -> None:
    with pytest.raises(AtelierError, match="my.toml is not valid TOML"):
        parse_document(text, "my.toml")


def test_backslashes_in_double_quotes_get_a_hint() -> None:
    with pytest.raises(AtelierError, match="single quotes"):
        parse_document('train_data_dir = "C:\\Users\\me"', "my.toml")


def test_missing_files_and_folders_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="There is no file"):
        load_job(tmp_path / "none.toml")
    with pytest.raises(AtelierError, match="is a folder"):
        load_job(tmp_path)
    (tmp_path / "a.toml").write_text("train_data_dir = 'nowhere'")
    with pytest.raises(SettingsError, match="there is no such folder"):
        load_job(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("dataset_config = 'nowhere.toml'")
    with pytest.raises(AtelierError, match="nowhere.toml"):
        load_job(tmp_path / "a.toml")
