"""What is trained, on which model, from which pictures, under which name."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

SUBJECTS = ("person", "object", "style")


@dataclass
class BasicSettings:
    """Names and places."""

    output_name: str = setting(
        "", "str", "Basics", "Output name", "The name of the LoRA; prompts use it as <lora:NAME:1>."
    )
    trigger: str = setting(
        "", "str", "Basics", "Trigger word", "The word that calls up what is learnt; pick one with no meaning yet.",
        ours=True,
    )  # fmt: skip
    subject: str = setting(
        "person", "str", "Basics", "What it is", "Chooses good values for everything below.",
        choices=SUBJECTS, ours=True,
    )  # fmt: skip
    train_data_dir: str | None = setting(
        None, "str", "Basics", "Folder of pictures", "A folder of pictures, or of folders named like 10_cat."
    )
    reg_data_dir: str | None = setting(
        None, "str", "Pictures", "Class pictures",
        "Pictures of the class in general, so that it keeps looking as it did; folders named like 1_cat.",
    )  # fmt: skip
    class_prompt: list[str] = setting(
        [], "strs", "Pictures", "Class prompt",
        "What the class is called, as in: a photo of a dog. A line for each class; needs a number of class pictures.",
        ours=True,
    )  # fmt: skip
    num_class_images: int | None = setting(
        None, "int", "Pictures", "Class pictures to draw",
        "So many of each class are drawn with the base before the run; those that are there already are used again.",
        minimum=1, maximum=10000, ours=True,
    )  # fmt: skip
    in_json: str | None = setting(
        None, "str", "Pictures", "Captions in one file",
        "kohya's metadata JSON with the captions of all pictures in the folder.", shown=False,
    )  # fmt: skip
    pretrained_model_name_or_path: str | None = setting(
        None, "str", "Basics", "Base model", "For the command line: the checkpoint to train on.", shown=False
    )
    vae: str | None = setting(None, "str", "Basics", "VAE", "For the command line: another VAE file.", shown=False)
    v2: bool = setting(
        False, "bool", "Basics", "SD2", "kohya's flag; the family is told from the tensors.", shown=False
    )
    v_parameterization: bool = setting(
        False, "bool", "Basics", "v-prediction", "kohya's flag; what the base predicts is told from itself.",
        shown=False,
    )  # fmt: skip
    output_dir: str | None = setting(
        None,
        "str",
        "Saving",
        "Output folder",
        "For the command line; in a WebUI its own LoRA folder is used.",
        shown=False,
    )
    seed: int | None = setting(
        None, "int", "Learning", "Seed", "The same seed and settings give the same LoRA; empty picks one.",
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
        None, "str", "Description", "Tags", "Kept in the file's metadata, separated by commas."
    )
    metadata_trigger_phrase: str | None = setting(
        None, "str", "Description", "Trigger phrase", "Kept in the file's metadata; empty takes the trigger word."
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
