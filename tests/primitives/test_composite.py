"""One backend per capability, by name: on the command line, in Python, loaded when it is first called."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller import Executor, Problem
from unroller.capabilities import (
    AnswerScorer,
    DepthEstimator,
    DepthRequest,
    FeatureExtractor,
    PoseEstimator,
    Prompt,
    TextGenerator,
    ViewSynthesizer,
)
from unroller.check import check
from unroller.cli import main
from unroller.faults import MissingCapability
from unroller.rendering import TextSegment
from unroller.values import DepthMap, Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny.several import save_several

from primitives.backends.classical import Classical
from primitives.backends.composite import Composite
from primitives.backends.hf_depth import HFDepth

ROOT = Path(__file__).resolve().parents[2]
UNROLLER = Path(sys.executable).with_name("unroller")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_several(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photo():
    return Image(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.fixture
def unroller(capsys, tmp_path, monkeypatch):
    """`unroller …` in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments], standalone_mode=False)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


def estimated(backend, photo, seed=0):
    (outcome,) = backend.estimate_depth([DepthRequest(photo)], seeds=[seed])
    return outcome


def written(backend, words="where"):
    (outcome,) = backend.generate_text(
        [Prompt((TextSegment(words),), "Think.")], max_tokens=4, temperature=0.0, seeds=[1]
    )
    return outcome


def row(composite, name):
    (found,) = [row for row in composite.ledger() if row.model.endswith(name)]
    return found


# ------------------------------------------------------------------------------------- the command line


TASKS = {
    "spatial": ["-q", "Where is it?", "--choices", "left,right", "--calls", "text_think,depth_caption"],
    "understanding": ["-q", "Which is it?", "--choices", "red,blue", "--calls", "text_think"],
    "depth": ["--calls", "depth_estimate"],
    "novel_view": ["--look", "left"],
    "pose": ["--problem", "rooms:3", "--calls", "camera_pose_estimate"],
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_on_one_backend_a_capability(task, unroller, models, photo, tmp_path):
    files = []
    if task != "pose":
        Pillow.fromarray(photo.pixels).save("a.png")
        files = ["a.png"]
    chosen = [f"text=hf:{models}/chat", "pose=classical", "views=classical", f"depth=hf:{models}/depth"]
    backends = [part for word in chosen for part in ("--backend", word)]
    code, out, err = unroller("run", "--task", task, *TASKS[task], *backends, *files, "--json", "--out", "o")
    document = json.loads(out)
    assert code == 0 and document["output"] is not None, err
    assert not [event for event in document["events"] if event["type"] == "fault"]


def test_the_example_file_runs_in_a_process_of_its_own(tmp_path):
    file = ROOT / "examples" / "backends.toml"
    command = [UNROLLER, "run", "--backend", file, "--task", "spatial", "--problem", "rooms:2", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"]["text"] in ("left", "right", "front", "behind")


def test_a_recorded_run_is_opened_again_with_the_words_it_was_started_with(unroller, models, photo):
    Pillow.fromarray(photo.pixels).save("a.png")
    assert (
        unroller("run", "--task", "depth", "-b", f"depth=hf:{models}/depth", "a.png", "--out", "kept")[0] == 0
    )
    code, out, err = unroller("runs", "explain", "kept")
    assert code == 0 and "depth" in out, err
    assert json.loads((Path("kept") / "command.json").read_text())["backends"] == [f"depth=hf:{models}/depth"]


def test_a_run_folder_takes_up_no_file_unasked(unroller, models, photo):
    Pillow.fromarray(photo.pixels).save("a.png")
    Path("setup.toml").write_text(f'depth = "hf:{models}/depth"\n')
    assert unroller("run", "--task", "depth", "-b", "setup.toml", "a.png", "--out", "kept")[0] == 0
    code, _, err = unroller("runs", "explain", "kept")
    assert code == 2 and "name it again with --use setup.toml" in err
    assert unroller("runs", "explain", "kept", "--use", "setup.toml")[0] == 0


def test_unroller_check_takes_words(unroller, models):
    code, out, _ = unroller("check", f"depth=hf:{models}/depth")
    assert code == 0 and "3 of 3 requests answered, together as alone" in out
    code, out, _ = unroller("check", "depth", "-b", f"depth=hf:{models}/depth")
    assert code == 0, out


def test_a_brought_backend_can_be_named(unroller, photo, tmp_path):
    Pillow.fromarray(photo.pixels).save("a.png")
    Path("flat_depth.py").write_text(
        "import numpy as np\n"
        "from unroller import DepthMap\nfrom unroller.capabilities import DepthEstimator\n"
        "class Flat:\n"
        "    name, fingerprint, max_batch, provides = 'flat', 'flat-1', 4, (DepthEstimator,)\n"
        "    def __init__(self, far=2.0): self.far = far\n"
        "    def estimate_depth(self, requests, *, seeds):\n"
        "        return [DepthMap(np.full(r.photo.pixels.shape[:2], self.far, np.float32), None, 'metre')\n"
        "                for r in requests]\n"
    )
    for words in (["-b", "depth=flat_depth:Flat?far=3"], ["--use", "flat_depth.py:Flat", "-b", "depth=flat"]):
        code, out, err = unroller("run", "--task", "depth", *words, "--calls", "", "a.png", "--json")
        assert code == 0, err
        assert json.loads(out)["output"]["unit"] == "metre"


def test_a_brought_class_is_made_from_the_path_that_is_named(unroller, photo):
    Pillow.fromarray(photo.pixels).save("a.png")
    Path("far.txt").write_text("7")
    Path("yours.py").write_text(
        "from pathlib import Path\nimport numpy as np\n"
        "from unroller import DepthMap\nfrom unroller.capabilities import DepthEstimator\n"
        "class Flat:\n"
        "    name, fingerprint, max_batch, provides, lacks = 'flat', 'flat-none', 4, (), 'a file'\n"
        "    def __init__(self, path=None, *, times=1):\n"
        "        if path is not None:\n"
        "            self.far, self.provides = times * float(Path(path).read_text()), (DepthEstimator,)\n"
        "            self.fingerprint = f'flat-{self.far}'\n"
        "    def estimate_depth(self, requests, *, seeds):\n"
        "        return [DepthMap(np.full(r.photo.pixels.shape[:2], self.far, np.float32), None, 'metre')\n"
        "                for r in requests]\n"
    )
    for words in (
        ["-b", "depth=yours:Flat:far.txt?times=2"],
        ["-b", "depth=yours.py:Flat:far.txt?times=2"],
        ["--use", "yours.py:Flat", "-b", "depth=flat:far.txt?times=2"],
        ["--use", "yours.py:Flat", "-b", "flat:far.txt?times=2", "-b", "pose=classical"],
    ):
        code, out, err = unroller("run", "--task", "depth", *words, "--calls", "", "a.png", "--json")
        assert code == 0, err
        assert json.loads(out)["output"]["unit"] == "metre", words
    code, _, err = unroller("run", "--task", "depth", "-b", "yours:Flat", "--calls", "", "a.png")
    assert code == 3 and "flat lacks a file" in err


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("text=hf:MISSING", 3, "text=hf:MISSING: MISSING: no such folder; get a checkpoint with"),
        ("txt=hf:MISSING", 2, "no capability is called 'txt'. Did you mean 'text'"),
        ("hff:/models/x", 2, "no backend is called 'hff'. Did you mean 'hf'"),
        ("text=hff", 2, "no backend is called 'hff'. Did you mean 'hf'"),
        ("text=", 3, "lacks a backend"),
        ("=hf:x", 2, "no backend is called '=hf'"),
        ("depth=hf:x?device=", 3, "no such folder"),
        ("nowhere.toml", 3, "nowhere.toml: no such file"),
        ("depth=hf:" + "x" * 300, 3, "its files cannot be read"),
        ("pose=classical:/models/x", 3, "classical is made without a path"),
        ("text=nobody_here:Model", 3, "nobody_here"),
    ],
)
def test_a_word_that_is_wrong_ends_the_command_with_one_sentence(word, code, says, unroller, photo):
    Pillow.fromarray(photo.pixels).save("a.png")
    ended, _, err = unroller("run", "--task", "depth", "--backend", word, "a.png")
    assert ended == code and says in err and len(err.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_a_capability_that_nobody_was_named_for_is_asked_of_nobody(unroller, photo):
    Pillow.fromarray(photo.pixels).save("a.png")
    code, _, err = unroller("run", "--task", "depth", "--backend", "pose=classical", "a.png")
    assert code == 3 and "needs DepthEstimator, which no chosen backend provides (composite)" in err


# ------------------------------------------------------------------------------------------- who is meant


def test_what_a_model_says_that_it_lacks_is_handed_on(photo):
    """Where it would be asked, and nobody else provides it."""

    class Estimates(Classical):
        name, provides = "estimates", (PoseEstimator,)
        lacks = {DepthEstimator: "a second eye: open it"}  # noqa: RUF012

    problem = Problem(task="depth", images=[photo])
    with pytest.raises(MissingCapability, match=r"composite lacks what estimates lacks, a second eye: open"):
        Executor(backend=Composite([Estimates()])).run(problem)
    for others in ({"pose": Estimates()}, [Estimates(), "classical"]):
        assert Composite(others).lacks == {}


def test_a_model_is_called_by_the_word_that_named_it(models):
    for word, name in (("nano?steps=2", "nano?steps=2"), ("text = nano?steps=2", "nano?steps=2")):
        assert [row.model for row in Composite([word]).ledger()] == [name]


def test_in_python_words_and_a_mapping_and_objects_do_the_same(models, photo):
    by_words = Executor(backend=[f"depth=hf:{models}/depth", "pose=classical"])
    by_mapping = Executor(backend=Composite({"depth": HFDepth(models / "depth"), "pose": Classical()}))
    x = Problem.depth(photo.pixels)
    runs = [executor.extend(policy=[]).run(x) for executor in (by_words, by_mapping)]
    assert runs[0].output == runs[1].output
    assert runs[0].output == Executor(backend=HFDepth(models / "depth"), policy=[]).run(x).output


def test_what_lies_at_the_path_says_which_class_is_meant(models):
    composite = Composite([f"hf:{models}/{name}" for name in ("match", "chat", "depth")])
    names = {c.__name__: composite.provider_of(c).name for c in composite.provides}
    assert names == {
        "PoseEstimator": "hf_matching",
        "AnswerScorer": "hf",
        "FeatureExtractor": "hf",
        "TextGenerator": "hf",
        "DepthEstimator": "hf_depth",
    }


def test_who_is_named_comes_first_then_the_order_then_answers_with_text(models):
    composite = Composite(["classical", f"text=hf:{models}/chat", f"depth=hf:{models}/depth", "nano"])
    who = {c: composite.provider_of(c).name for c in composite.provides}
    assert who[DepthEstimator] == "hf_depth", "named for it"
    assert who[PoseEstimator] == "classical", "named before nano"
    assert who[AnswerScorer] == who[FeatureExtractor] == "nano", "named whole: before who is named for text"
    assert who[TextGenerator] == "hf"
    alone = Composite(["pose=classical"])
    assert alone.provides == (PoseEstimator,), "what it was not named for it is not asked for"
    with pytest.raises(MissingCapability, match="provides no depth: name a backend"):
        alone.provider_of(DepthEstimator)


def test_equal_words_are_one_model(models):
    again = models / "." / "chat"
    composite = Composite(
        [
            f"text=hf:{models}/chat",
            f"answers=hf:{again}?device=auto",
            f"features=hf:{models}/chat?dtype=bfloat16",
        ]
    )
    text, answers, features = map(composite.provider_of, (TextGenerator, AnswerScorer, FeatureExtractor))
    assert text is answers and features is not text
    written(composite)
    composite.score_answers([Prompt((TextSegment("is it"),))], [("yes", "no")])
    assert [(row.loads, row.capabilities) for row in composite.ledger()] == [
        (1, ("text", "answers")),
        (0, ("features",)),
    ]


def test_each_capability_has_its_own_fingerprint_and_batch(models, photo):
    words = [f"text=hf:{models}/chat?max_batch=3", f"depth=hf:{models}/depth", "pose=classical"]
    composite = Composite(words)
    limits = [composite.provider_of(c).max_batch for c in (TextGenerator, DepthEstimator, PoseEstimator)]
    assert limits == [3, 8, 16] and composite.max_batch == 3
    plain = HFDepth(models / "depth")
    assert composite.provider_of(DepthEstimator).fingerprint == plain.fingerprint
    first = Executor(backend=plain, policy=["depth_estimate"])
    run = first.run(Problem.depth(photo.pixels))
    again = first.extend(backend=composite).run(Problem.depth(photo.pixels))
    assert again.output == run.output and again.spent.computed == 0, (
        "what the model alone gave is found again"
    )
    assert row(composite, "depth").loads == 0


def test_the_fingerprint_is_of_content_and_not_of_order_or_loading(models, photo):
    words = [f"depth=hf:{models}/depth", "pose=classical"]
    one, other = Composite(words), Composite(words[::-1])
    estimated(one, photo)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != Composite([f"depth=hf:{models}/depth2", "pose=classical"]).fingerprint
    assert one.fingerprint != Composite(words[:1]).fingerprint


def test_the_backend_contract_is_kept(models):
    composite = Composite(
        [f"text=hf:{models}/chat?dtype=float32", f"pose=hf:{models}/match", f"depth=hf:{models}/depth"]
    )
    findings = check(composite)
    assert findings.ok and not findings.warnings, str(findings)
    assert isinstance(composite, (TextGenerator, PoseEstimator)) and not isinstance(
        composite, ViewSynthesizer
    )


def test_without_words_it_provides_nothing_or_what_the_environment_names(monkeypatch, models, tmp_path):
    monkeypatch.delenv("UNROLLER_COMPOSITE", raising=False)
    assert Composite.provides == Composite().provides == ()
    with pytest.raises(MissingCapability, match="composite lacks a TOML file in UNROLLER_COMPOSITE"):
        Executor(backend="composite").decoder("depth")
    file = tmp_path / "setup.toml"
    file.write_text(f'depth = "hf:{models}/depth"')
    monkeypatch.setenv("UNROLLER_COMPOSITE", str(file))
    assert Executor(backend="composite").decoder("depth").missing is None


# -------------------------------------------------------------------------------------------------- loading


def test_nothing_heavy_is_imported_before_the_first_call(models):
    code = (
        "import sys; from primitives.backends.composite import Composite;"
        f"c = Composite(['text=hf:{models}/chat', 'pose=classical']); c.fingerprint; c.ledger();"
        "print([m for m in ('torch', 'transformers', 'cv2', 'diffusers') if m in sys.modules], c.provides)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("[] (<class"), done.stdout + done.stderr


def test_a_model_is_loaded_when_it_is_first_called_and_once(models, photo):
    composite = Composite([f"text=hf:{models}/chat", f"depth=hf:{models}/depth?device=cpu", "pose=classical"])
    before = row(composite, "depth")
    assert (before.state, before.loads, before.last_used) == ("not loaded", 0, None)
    threads = [threading.Thread(target=estimated, args=(composite, photo)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = row(composite, "depth")
    assert (after.state, after.loads, after.device) == ("idle", 1, "cpu")
    assert after.last_used >= 0 and after.load_seconds > 0
    assert before.bytes == pytest.approx(after.bytes, rel=0.1), "what its files promised"
    assert row(composite, "chat").loads == row(composite, "classical").loads == 0
    assert "idle, used 0 s ago, loaded 1 times" in str(after)


def test_what_it_takes_is_counted_with_what_it_has_read(models):
    composite = Composite([f"text=hf:{models}/chat?device=cpu"])
    written(composite)
    backend = composite.provider_of(TextGenerator).backend
    weights = sum(p.nbytes for p in backend.reader.model.parameters())
    buffers = sum(b.nbytes for b in backend.reader.model.buffers())
    first = row(composite, "chat").bytes
    assert first - weights - buffers >= backend.reader.memory.bytes > 0
    written(composite, "where is the red cone " * 20)
    assert row(composite, "chat").bytes > first


def test_the_expected_size_follows_the_dtype_that_is_asked_for(models):
    full, half = (
        Composite([f"depth=hf:{models}/depth?dtype={dtype}&device=cpu"]).ledger()[0].bytes
        for dtype in ("float32", "bfloat16")
    )
    assert half == full / 2


def test_what_cannot_be_loaded_says_whose_it_is_and_harms_nobody_else(models, photo, tmp_path):
    broken = tmp_path / "chat"
    shutil.copytree(models / "chat", broken)
    (broken / "processor_config.json").unlink()
    composite = Composite([f"text=hf:{broken}", f"depth=hf:{models}/depth"])
    with pytest.raises(MissingCapability, match=f"^text=hf:{broken}: .*has no processor"):
        written(composite)
    with pytest.raises(MissingCapability, match=f"^answers=hf:{broken}: "):
        composite.score_answers([Prompt((TextSegment("is it"),))], [("yes", "no")])
    assert isinstance(estimated(composite, photo), DepthMap)
    assert row(composite, "chat").state == "not loaded"
    shutil.copy(models / "chat" / "processor_config.json", broken)
    assert written(Composite([f"text=hf:{broken}"])).tokens
