"""What the embedded model says of folders, devices and settings that are none: one sentence, before the first
call; and of files that turn out to be damaged, the file and what to do."""

import json
import shutil

import numpy as np
import pytest
import torch

from nano_omni import autoencoder, tokenizer, verifier
from nano_omni.config import CONFIGS
from nano_omni.model import NanoOmni
from primitives.answers import spatial
from primitives.backends.nano import Nano, UnwaryNano, rooms
from primitives.backends.nano.verdicts import generation as score
from primitives.drawing import generation
from unroller import Executor, Problem
from unroller.cli import main
from unroller.faults import MissingCapability, PluginError
from unroller.values import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights that draw, and that nobody measured what they know of photos."""
    return saved(tmp_path_factory.mktemp("draws"), NanoOmni(config=CONFIGS["tiny"]).with_generation_expert())


def saved(folder, model):
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def executor(backend, **options):
    return Executor(backend=backend, policy=[], decoders=[spatial, generation], memo=None, **options)


# -------------------------------------------------------------------------------------------------- folders


def without(name):
    return lambda folder: (folder / name).unlink()


def configured(text):
    return lambda folder: (folder / "config.json").write_text(text)


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("weights")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "no such folder; name the folder that holds model.safetensors and config.json"),
        (a_file, "is a file; name the folder"),
        (without("model.safetensors"), "no model.safetensors in"),
        (without("config.json"), "no config.json in"),
        (configured("{"), r"config.json cannot be read \(JSONDecodeError"),
        (configured("[]"), r"config.json cannot be read \(TypeError"),
        (configured(json.dumps({"wings": 2})), r"config.json cannot be read \(TypeError: .*'wings'"),
        (configured(json.dumps({"width": 33})), r"config.json cannot be read \(ValueError: width 33"),
    ],
)
def test_a_folder_that_is_none_is_named_where_it_is_chosen(folder, spoil, says, tmp_path):
    spoilt = shutil.copytree(folder, tmp_path / "spoilt")
    spoil(spoilt)
    for make in (Nano, UnwaryNano, lambda path: executor(f"nano:{path}")):
        with pytest.raises(MissingCapability, match=says) as raised:
            make(spoilt)
        said = str(raised.value)
        assert str(spoilt) in said and "make weights" in said and "\n" not in said


@pytest.mark.parametrize("task", ["generation", "spatial"])
def test_a_command_with_such_a_folder_makes_no_call(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    what = {"generation": ["-p", "a red cone"], "spatial": ["--problem", "rooms:2"]}[task]
    command = ["run", "--task", task, *what, "--backend", "nano:/nowhere"]
    assert main(command, standalone_mode=False) == 3
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: nano:/nowhere: /nowhere: no such folder; name the folder")
    assert said[:-1] in ([], ["making the problem rooms:2 …"])
    assert not (tmp_path / "runs").exists()


def test_weights_that_do_not_draw_say_so_whoever_they_are_chosen_by(tmp_path):
    bare = saved(tmp_path / "bare", NanoOmni(config=CONFIGS["tiny"]))
    for backend, who in ((Nano(bare), "nano"), (f"nano:{bare}", f"composite lacks what nano:{bare}")):
        with pytest.raises(MissingCapability, match=rf"{who} lacks,? weights that draw: teach it with"):
            executor(backend).run(Problem.generation("a red cone"))


# -------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("device", "error", "says"),
    [
        ("xyz", PluginError, "'xyz' is no device: write"),
        ("", PluginError, "'' is no device"),
        (3.5, PluginError, "'3.5' is no device"),
        ("cuda", MissingCapability, "'cuda' was asked for, and this machine has no CUDA GPU"),
        ("cuda:9", MissingCapability, "'cuda:9' was asked for"),
    ],
)
def test_a_device_that_is_not_there_is_no_fault_of_the_weights(folder, device, error, says, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for make in (lambda: Nano(folder, device=device), lambda: executor(f"nano:{folder}?device={device}")):
        with pytest.raises(error, match=says):
            make()


def test_a_device_by_any_of_its_names(folder):
    for device in ("cpu", "auto", torch.device("cpu")):
        assert Nano(folder, device=device, refuse=False).reader.model.config.width == 32


def test_a_device_that_takes_nothing_and_one_that_is_full(folder, monkeypatch):
    def broken(model, device):
        raise RuntimeError("the driver is too old\n(see its page)")

    def full(model, device):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(NanoOmni, "to", broken)
    with pytest.raises(MissingCapability, match=r"put on the device 'cpu' \(RuntimeError: the driver .*page"):
        Nano(folder, refuse=False).reader  # noqa: B018
    monkeypatch.setattr(NanoOmni, "to", full)
    with pytest.raises(torch.OutOfMemoryError):  # which the engine knows what to do with
        Nano(folder, refuse=False).reader  # noqa: B018


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("steps=0", "steps=0: give a whole number, 1 or more"),
        ("steps=2.5", "steps=2.5: give a whole number"),
        ("steps=true", "steps=True: give a whole number"),
        ("steps=abc", "steps='abc': give a whole number"),
        ("steps=null", "steps=None: give a whole number"),
        ("max_bytes=-5", "max_bytes=-5: give a whole number, 0 or more"),
        ("max_bytes=much", "max_bytes='much': give a whole number"),
        ("guidance=nan", "guidance='nan': give a number, 0 or more and below 100"),
        ("guidance=NaN", "guidance=nan: give a number"),
        ("guidance=-1", "guidance=-1: give a number"),
        ("image_guidance=100", "image_guidance=100: give a number"),
        ("image_guidance=null", "image_guidance=None: give a number"),
        ("refuse=no", "refuse='no': give true or false"),
        ("refuse=0", "refuse=0: give true or false"),
        ("weights=3", "weights=3: give the folder that holds them"),
    ],
)
def test_a_setting_that_is_none_is_named_with_what_it_may_be(setting, says):
    with pytest.raises(PluginError) as raised:
        executor(f"nano?{setting}")
    assert str(raised.value).startswith(f"nano?{setting}: {says}")


def test_settings_of_every_kind_that_there_are(folder):
    nano = Nano(folder, steps=np.int64(2), guidance=None, image_guidance=0, max_bytes=0, refuse=False)
    assert nano.sampling == (2, None, 0.0)
    assert Nano(folder, guidance=np.float32(2.5)).sampling[1] == 2.5


# ---------------------------------------------------------------------------------------------------- files


def test_answering_needs_a_measure_of_what_is_known_unless_nothing_is_refused(folder):
    room = rooms(3, "spatial", hops=1)
    (fault,) = executor(Nano(folder)).run(room).faults
    assert fault.kind == "MissingCapability" and "damaged" not in fault.message
    assert fault.message.endswith(f"fit one with `python -m nano_omni.familiarity --weights {folder}`")
    assert executor(Nano(folder, refuse=False)).run(room).output is not None
    assert executor(Nano(folder, steps=1)).run(Problem.generation("a red cone")).output is not None


@pytest.mark.parametrize("content", [None, b"cut short"])
def test_a_network_beside_the_weights_is_named_by_its_file(content, folder, tmp_path, monkeypatch):
    for module, name in ((autoencoder, "autoencoder"), (verifier, "verifier")):
        file = tmp_path / f"{name}.safetensors"
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setattr(module, "FILE", file)
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)  # nothing is remembered
    drawn = Problem.generation("a red cone")
    (fault,) = executor(Nano(folder, steps=1)).run(drawn).faults
    assert fault.kind == "MissingCapability" and str(autoencoder.FILE) in fault.message
    assert "restore it, or train it with `python -m nano_omni.training.autoencoder`" in fault.message
    with pytest.raises(MissingCapability, match=r"train it with `python -m nano_omni\.training\.verifier`"):
        score(drawn, Image(np.zeros((64, 64, 3), np.uint8)))
