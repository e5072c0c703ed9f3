"""One backend per capability as a TOML file says it, and files that are wrong in every way."""

import pytest

from unroller.capabilities import DepthEstimator, PoseEstimator, TextGenerator
from unroller.faults import MissingCapability, PluginError, UnknownName

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny.several import save_several

from primitives.backends.composite import Composite


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_several(tmp_path_factory.mktemp("models"))


FILES = {
    "poes = 'classical'": (PluginError, "there is no 'poes'. Did you mean 'pose'"),
    "pose = 'clasical'": (UnknownName, "no backend is called 'clasical'. Did you mean 'classical'"),
    "pose = 'hff:/models/x'": (UnknownName, "no backend is called 'hff'. Did you mean 'hf'"),
    "text = 'hf:/models/nowhere'": (MissingCapability, "text=hf:/models/nowhere: .*no such folder"),
    "depth = 'hf:/models/nowhere'": (MissingCapability, "depth=hf:/models/nowhere: .*no such folder"),
    "pose = 'classical'\npose = 'nano'": (PluginError, "cannot be read as TOML .Cannot overwrite"),
    "pose = 'classical'\nPoseEstimator = 'nano'": (PluginError, "are for one capability"),
    "depth = 'hf:{models}/depth?device=gpu'": (PluginError, "depth=hf:.*'gpu' is no device"),
    "text = 'hf:{models}/chat?device=gpu'": (PluginError, "text=hf:.*'gpu' is no device"),
    "text = 'hf:{models}/chat?dtype=half'": (PluginError, "text=hf:.*'half' is no dtype"),
    "text = 'hf:{models}/depth'": (MissingCapability, "is for depth, not text: name another"),
    "depth = 'hf:{models}/chat'": (MissingCapability, "is for .*text, not depth: name another"),
    "image = 'hf:{models}/chat'": (MissingCapability, "is for .*text, not image: name another"),
    "text = 'classical'": (MissingCapability, "classical provides pose, views, depth, not text"),
    "text = 'hf'": (MissingCapability, "provides nothing without a checkpoint's folder in UNROLLER_HF"),
    "depth = 'hf:{models}/depth?path=x'": (PluginError, "hf_depth has no setting 'path'"),
    "depth = 'hf:{models}/depth?max_batch=true'": (PluginError, "max_batch of True"),
    "others = ['composite:{models}/../again.toml']": (MissingCapability, "again.toml: no such file"),
    "pose = 5": (PluginError, "pose = 5 is no backend"),
    "pose = ''": (PluginError, "lacks a backend"),
    "pose = 'hf:'": (PluginError, "lacks a path after the colon"),
    "pose = 'depth=classical'": (PluginError, "names a capability twice"),
    "pose = 'classical?speed=9'": (PluginError, "classical has no setting 'speed': it has none"),
    "depth = 'hf:{models}/depth?windw=refuse'": (
        PluginError,
        "hf_depth has no setting 'windw': it has device",
    ),
    "depth = 'hf:{models}/depth?max_batch=many'": (PluginError, "max_batch of 'many': give 1 or more"),
    "text = 'hf:{models}/chat?max_batch=many'": (PluginError, "HFVLM cannot be made, max_batch='many'"),
    "depth = 'hf:{models}/depth?device'": (PluginError, "after the question mark stand settings"),
    "depth = 'hf:{models}/depth?steps=1&steps=2'": (PluginError, "gives steps twice"),
    "[depth]\npath = '{models}/depth'": (PluginError, "lacks a backend"),
    "[depth]\nbackend = 'hf:{models}/depth'\npath = 'x'": (PluginError, "names one already"),
    "[depth]\nbackend = 'hf:{models}/depth'\npose = 'nano'": (PluginError, "above the first table"),
    "others = 'classical'": (PluginError, "give a list"),
    "others = [3]": (PluginError, "3 is no backend"),
    "memory = 5": (PluginError, "give sizes by device"),
    "[memory]\ngpu = '8 GB'": (PluginError, "'gpu' is no device: write cpu"),
    "[memory]\ncpu = 'much'": (PluginError, "memory of cpu: 'much' is no size"),
    "[memory]\ncuda = 5\n'cuda:0' = 5": (PluginError, "cuda:0 is given twice"),
    "": (PluginError, "names no backend"),
    "pose = ": (PluginError, "cannot be read as TOML"),
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_is_wrong_says_so_in_one_sentence(text, models, tmp_path, monkeypatch):
    monkeypatch.delenv("UNROLLER_HF_CHECKPOINT", raising=False)
    error, says = FILES[text]
    file = tmp_path / "setup.toml"
    file.write_text(text.replace("{models}", str(models)))
    with pytest.raises(error, match=says) as raised:
        Composite.from_toml(file)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(MissingCapability, match="nowhere.toml: no such file"):
        Composite.from_toml(tmp_path / "nowhere.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(PluginError, match="cannot be read as TOML"):
        Composite.from_toml(tmp_path / "folder.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe pose")
    with pytest.raises(PluginError, match="cannot be read as TOML"):
        Composite.from_toml(tmp_path / "bytes.toml")


def test_a_file_may_name_another_and_not_itself(models, tmp_path):
    (tmp_path / "inner.toml").write_text(f"depth = 'hf:{models}/depth'")
    (tmp_path / "outer.toml").write_text(f"others = ['composite:{tmp_path}/inner.toml', 'classical']")
    composite = Composite.from_toml(tmp_path / "outer.toml")
    assert composite.provider_of(DepthEstimator).name == "composite"
    (tmp_path / "inner.toml").write_text(f"others = ['composite:{tmp_path}/inner.toml']")
    with pytest.raises(PluginError, match="RecursionError"):
        Composite.from_toml(tmp_path / "outer.toml")


def test_paths_in_a_file_are_from_its_own_folder(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = models / "setup.toml"
    file.write_text("text = 'hf:chat'\n[depth]\nbackend = 'hf'\npath = 'depth2'\nmax_batch = 2\n")
    composite = Composite.from_toml(file)
    assert [row.capabilities for row in composite.ledger()] == [("text", "answers", "features"), ("depth",)]
    assert composite.provider_of(DepthEstimator).max_batch == 2


def test_of_a_word_and_a_file_the_earlier_wins_and_a_word_twice_is_an_error(models, tmp_path):
    file = tmp_path / "setup.toml"
    file.write_text("pose = 'nano'\ntext = 'nano'\n[memory]\ncpu = '8 GB'\n")
    composite = Composite(["pose=classical", str(file)])
    assert composite.provider_of(PoseEstimator).name == "classical"
    assert composite.provider_of(TextGenerator).name == "nano"
    assert composite._ledger.limits == {"cpu": 8 * 10**9}
    assert Composite([str(file), "pose=classical"]).provider_of(PoseEstimator).name == "nano"
    with pytest.raises(PluginError, match="pose=classical and pose=nano are for one capability"):
        Composite(["pose=classical", "pose=nano"])
