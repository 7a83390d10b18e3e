"""Basic settings: what is trained, on which model, from which pictures, under which name."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

SUBJECTS = ("person", "object", "style")


@dataclass
class BasicSettings:
    """Names and places."""

    output_name: str = setting(
        "", "str", "Basics", "Output name", "Name of the LoRA. In a prompt you then write <lora:NAME:1>."
    )
    trigger: str = setting(
        "", "str", "Basics", "Trigger word",
        "A made-up word, such as zwx, that you will type in prompts to get what was learned.",
        ours=True,
    )  # fmt: skip
    subject: str = setting(
        "person", "str", "Basics", "What it is", "Sets recommended values for the rest.", choices=SUBJECTS, ours=True
    )
    train_data_dir: str | None = setting(
        None, "str", "Basics", "Folder of pictures",
        "A folder of pictures, or a folder with folders named like 10_cat (repeats_class).",
    )  # fmt: skip
    reg_data_dir: str | None = setting(
        None, "str", "Pictures", "Class pictures",
        "Other pictures of the same class, so that the class keeps its look. Folders named like 1_cat.",
    )  # fmt: skip
    class_prompt: list[str] = setting(
        [], "strs", "Pictures", "Class prompt",
        "What the class is called, as in: a photo of a dog. One line per class. Also set Class pictures to draw.",
        ours=True,
    )  # fmt: skip
    num_class_images: int | None = setting(
        None, "int", "Pictures", "Class pictures to draw",
        "How many pictures of each class the base model draws before the run. Earlier ones are used again.",
        minimum=1, maximum=10000, ours=True,
    )  # fmt: skip
    in_json: str | None = setting(
        None, "str", "Pictures", "Captions in one file",
        "kohya's metadata JSON with the captions of all pictures in the folder.", shown=False,
    )  # fmt: skip
    pretrained_model_name_or_path: str | None = setting(
        None, "str", "Basics", "Base model", "For the command line: the checkpoint to train on.", shown=False
    )
    vae: str | None = setting(
        None, "str", "Pictures", "VAE",
        "Another VAE, a file or a folder, that encodes the pictures and draws the samples. Empty uses the base's own.",
    )  # fmt: skip
    v2: bool = setting(
        False, "bool", "Basics", "SD2",
        "kohya's flag, not needed: the model family is detected from the model.",
        shown=False,
    )  # fmt: skip
    v_parameterization: bool = setting(
        False, "bool", "Basics", "v-prediction",
        "kohya's flag, not needed: the prediction type is detected from the model.",
        shown=False,
    )  # fmt: skip
    output_dir: str | None = setting(
        None, "str", "Saving", "Output folder",
        "For the command line. A WebUI's own LoRA folder is used there.",
        shown=False,
    )  # fmt: skip
    seed: int | None = setting(
        None, "int", "Learning", "Seed",
        "The same seed and settings give the same LoRA. Empty picks a seed.",
        minimum=0, maximum=2**63 - 1,
    )  # fmt: skip
    training_comment: str | None = setting(None, "str", "Description", "Comment", "Kept in the file's metadata.")
    metadata_title: str | None = setting(None, "str", "Description", "Title", "Kept in the file's metadata.")
    metadata_author: str | None = setting(None, "str", "Description", "Author", "Kept in the file's metadata.")
    metadata_description: str | None = setting(
        None, "str", "Description", "Description", "Kept in the file's metadata."
    )
    metadata_license: str | None = setting(None, "str", "Description", "License", "Kept in the file's metadata.")
    metadata_tags: str | None = setting(
        None, "str", "Description", "Tags", "Kept in the file's metadata. Separate the tags with commas."
    )
    metadata_trigger_phrase: str | None = setting(
        None, "str", "Description", "Trigger phrase", "Kept in the file's metadata. Empty uses the trigger word."
    )
    metadata_usage_hint: str | None = setting(None, "str", "Description", "Usage hint", "Kept in the file's metadata.")
    metadata_merged_from: str | None = setting(
        None, "str", "Description", "Merged from", "Kept in the file's metadata.", shown=False
    )
    metadata_preprocessor: str | None = setting(
        None, "str", "Description", "Preprocessor", "Kept in the file's metadata.", shown=False
    )
    metadata_is_negative_embedding: str | None = setting(
        None, "str", "Description", "Negative embedding", "Kept in the file's metadata.", shown=False
    )
    metadata_thumbnail: str | None = setting(
        None, "str", "Description", "Thumbnail", "Kept in the file's metadata, as a data URL.", shown=False
    )
    no_metadata: bool = setting(
        False, "bool", "Description", "Leave the metadata out", "Writes only what a WebUI needs to load the file."
    )
