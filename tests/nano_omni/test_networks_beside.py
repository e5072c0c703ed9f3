"""The networks beside the model, which come along as one file each: what is said of a file that is none."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from nano_omni import autoencoder, verifier


def load(module, name, file, monkeypatch):
    monkeypatch.setattr(module, "FILE", file)
    return getattr(module, name).__wrapped__()  # anew, whatever was loaded before


BESIDE = [(autoencoder, "autoencoder"), (verifier, "verifier")]


@pytest.mark.parametrize(("module", "name"), BESIDE)
def test_a_file_that_is_missing(module, name, tmp_path, monkeypatch):
    file = tmp_path / f"{name}.safetensors"
    with pytest.raises(FileNotFoundError, match=rf"no {file}\): restore it, or train it with") as raised:
        load(module, name, file, monkeypatch)
    assert f"`python -m nano_omni.training.{name}`" in str(raised.value)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:1000])


def one_less(file):
    held = load_file(file)
    held.pop(next(one for one in held if one.endswith("weight")))
    save_file(held, file)


def something_else(file):
    save_file({"other": torch.zeros(3)}, file)


@pytest.mark.parametrize("spoil", [cut_short, one_less, something_else])
@pytest.mark.parametrize(("module", "name"), BESIDE)
def test_a_file_that_is_damaged(module, name, spoil, tmp_path, monkeypatch):
    file = tmp_path / f"{name}.safetensors"
    file.write_bytes(module.FILE.read_bytes())
    assert load(module, name, file, monkeypatch)
    spoil(file)
    with pytest.raises(ValueError, match=rf"^{file} cannot be read as an? {name} \(") as raised:
        load(module, name, file, monkeypatch)
    said = str(raised.value)
    assert f"`python -m nano_omni.training.{name}`" in said and "\n" not in said and len(said) < 700
