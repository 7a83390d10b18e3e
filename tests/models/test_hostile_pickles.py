"""Checkpoints that would fill the memory or keep a processor busy: each ends in a sentence, at once."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.adapters.files.kohya_file import read_lora
from atelier.config.errors import AtelierError
from atelier.models.checkpoints.pickle_file import PickleFile

MAGIC = 0x1950A86A20F9469CFC6C


def saved(content: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def repacked(content: bytes, change: Any, how: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of `torch.save` with its entries changed, `change(name, data)`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def legacy(*pickles: bytes) -> bytes:
    return b"".join([pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2), *pickles])


def kept_far_away() -> bytes:
    """A pickle that keeps an empty list under number 2^31."""
    return b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b"."


def many_times_itself() -> bytes:
    """Ten lists of ten lists of ten lists, thirty deep: 10^30 things to look into, in a few hundred bytes."""
    nested: list[Any] = ["x"]
    for _ in range(30):
        nested = [nested] * 10
    return legacy(pickle.dumps({"a": nested}, 2), pickle.dumps(["0"], 2), struct.pack("<Q", 0))


def itself_within() -> bytes:
    content: dict[str, Any] = {"optimizer": 1}
    content["state_dict"] = content
    return legacy(pickle.dumps(content, 2), pickle.dumps([], 2))


def longer_than_the_file() -> bytes:
    return legacy(pickle.dumps({"a": 1}, 2), pickle.dumps(["0"], 2), struct.pack("<Q", 2**34))


@pytest.mark.parametrize(
    "content",
    [
        kept_far_away(), legacy(kept_far_away(), pickle.dumps([], 2)), many_times_itself(), itself_within(),
        longer_than_the_file(), b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a.",
    ],
    ids=["far memo", "far memo, legacy", "nested", "itself", "storage", "tuples", "text"],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_a_few_bytes_that_stand_for_many(content: bytes, tmp_path: Path) -> None:
    for suffix in (".ckpt", ".pt"):
        path = tmp_path / f"any{suffix}"
        path.write_bytes(content)
        with pytest.raises(AtelierError, match=path.name):
            PickleFile(path)
        with pytest.raises(AtelierError, match=path.name):
            read_lora(path)


def test_a_zip_that_unpacks_to_more_than_itself(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    whole = saved({"a": torch.zeros(50_000), "b": torch.ones(3)})
    path.write_bytes(repacked(whole, lambda name, data: data, zipfile.ZIP_DEFLATED))
    with pytest.raises(AtelierError, match="larger than the file"):
        PickleFile(path)
    path.write_bytes(repacked(whole, lambda name, data: data))
    with PickleFile(path) as file:
        assert torch.equal(file.read("b"), torch.ones(3)) and file.read("a").shape == (50_000,)


def padded(name: str, data: bytes) -> bytes:
    """The pickle with a megabyte of one letter before what it holds."""
    if not name.endswith("data.pkl"):
        return data
    start, letters = data[:2], 2**20
    return start + b"X" + struct.pack("<I", letters) + b"a" * letters + b"0" + data[2:]


def test_a_pickle_that_unpacks_to_more_than_the_file(tmp_path: Path) -> None:
    """Its tensors are as small as they look: it is the pickle itself that would fill the memory."""
    path = tmp_path / "bomb.ckpt"
    whole = saved({"a": torch.ones(3)})
    path.write_bytes(repacked(whole, padded, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**16
    with pytest.raises(AtelierError, match="what is in it is larger than the file"):
        PickleFile(path)
    path.write_bytes(repacked(whole, padded))
    with PickleFile(path) as file:
        assert torch.equal(file.read("a"), torch.ones(3))


def test_a_storage_that_unpacks_to_more_than_the_file(tmp_path: Path) -> None:
    """A tensor of three numbers in a storage of a million: nothing is wrong until the storage is read."""
    path = tmp_path / "bomb.ckpt"
    whole = saved({"a": torch.zeros(2**20)[:3]})
    path.write_bytes(repacked(whole, lambda name, data: data, zipfile.ZIP_DEFLATED))
    with PickleFile(path) as file, pytest.raises(AtelierError, match="what is in it is larger than the file"):
        file.read("a")
    path.write_bytes(whole)
    with PickleFile(path) as file:
        assert torch.equal(file.read("a"), torch.zeros(3))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_many_names_for_one_storage(zipped: bool, tmp_path: Path) -> None:
    """Each name is read into memory of its own: a hundred of them are a hundred times the file."""
    path = tmp_path / "shared.ckpt"
    one = torch.ones(10_000)
    path.write_bytes(saved({str(name): one for name in range(100)}, zipped))
    with pytest.raises(AtelierError, match="its tensors are larger than the file"):
        PickleFile(path)


def test_a_tensor_larger_than_what_it_is_stored_in(tmp_path: Path) -> None:
    """Strides of zero make terabytes of one number, or a few of a thousand; many names may share one storage."""
    path = tmp_path / "wide.ckpt"
    one = torch.ones(1000)
    for content in ({"a": one[:1].expand(2**40)}, {str(name): one for name in range(1000)}):
        path.write_bytes(saved(content))
        with pytest.raises(AtelierError, match="larger than the file"):
            PickleFile(path)
    path.write_bytes(saved({"a": one[:1].expand(1500), "b": one}))
    with PickleFile(path) as file, pytest.raises(AtelierError, match="a cannot be read"):
        file.read("a")
    path.write_bytes(saved({"a": one, "tied": one}, zipped=False))
    with PickleFile(path) as file:
        assert torch.equal(file.read("tied"), one)


def test_a_size_in_huge_numbers(tmp_path: Path) -> None:
    """Three hundred of them, multiplied, keep a processor busy for minutes."""

    def large(name: str, data: bytes) -> bytes:
        number = pickle.dumps(2**60_000, 2)[2:-1]
        return data.replace(b"K\x03\x85", b"(" + number * 300 + b"t") if name.endswith("data.pkl") else data

    path = tmp_path / "large.ckpt"
    path.write_bytes(repacked(saved({"a": torch.ones(3)}), large))
    with pytest.raises(AtelierError, match="large.ckpt"):
        PickleFile(path)


def test_what_a_pickle_calls_keeps_what_it_is(tmp_path: Path) -> None:
    """A pickle may set attributes of the functions that it names; ours have none to set."""
    path = tmp_path / "set.ckpt"
    state = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."
    path.write_bytes(legacy(state, pickle.dumps([], 2)))
    with pytest.raises(AtelierError, match="set.ckpt"):
        PickleFile(path)
    path.write_bytes(saved({"a": torch.ones(3)}))
    with PickleFile(path) as file:
        assert torch.equal(file.read("a"), torch.ones(3))


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """A tensor whose place in the file is told in text is no tensor."""

    def worded(name: str, data: bytes) -> bytes:
        return data.replace(b"K\x03\x85", b"X\x01\x00\x00\x003\x85") if name.endswith("data.pkl") else data

    path = tmp_path / "worded.ckpt"
    path.write_bytes(repacked(saved({"a": torch.ones(3)}), worded))
    with pytest.raises(AtelierError, match="has no weights"):
        PickleFile(path)
