"""One backend per capability: real, tiny checkpoints by name, and a ledger that keeps to its memory."""

import gc
import json
import shutil
import subprocess
import sys
import threading
import weakref
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
    PhotoPair,
    PoseEstimator,
    Prompt,
    TextGenerator,
    ViewSynthesizer,
)
from unroller.check import check
from unroller.cli import main
from unroller.faults import InputError, MissingCapability, PluginError, UnknownName
from unroller.rendering import TextSegment
from unroller.values import DepthMap, Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny.chat_models import llava, saved  # noqa: E402
from tiny.depth_models import save_depth_anything  # noqa: E402
from tiny.matchers import save_lightglue  # noqa: E402

from primitives.backends.checkpoints import opened  # noqa: E402
from primitives.backends.classical import Classical  # noqa: E402
from primitives.backends.composite import Composite  # noqa: E402
from primitives.backends.composite.holding import bytes_of, held_bytes, shown  # noqa: E402
from primitives.backends.hf_depth import HFDepth  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
UNROLLER = Path(sys.executable).with_name("unroller")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a chat model, two depth models of equal size and a matcher."""
    root = tmp_path_factory.mktemp("models")
    for name in ("chat", "depth", "depth2", "match"):
        (root / name).mkdir()
    saved(root / "chat", llava(longest=4096))
    save_depth_anything(root / "depth")
    save_depth_anything(root / "depth2", "metric", 20)
    save_lightglue(root / "match")
    return root


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
    Path("mine.py").write_text(
        "import numpy as np\n"
        "from unroller import DepthMap\nfrom unroller.capabilities import DepthEstimator\n"
        "class Flat:\n"
        "    name, fingerprint, max_batch, provides = 'flat', 'flat-1', 4, (DepthEstimator,)\n"
        "    def __init__(self, far=2.0): self.far = far\n"
        "    def estimate_depth(self, requests, *, seeds):\n"
        "        return [DepthMap(np.full(r.photo.pixels.shape[:2], self.far, np.float32), None, 'metre')\n"
        "                for r in requests]\n"
    )
    for words in (["-b", "depth=mine:Flat?far=3"], ["--use", "mine.py:Flat", "-b", "depth=flat"]):
        code, out, err = unroller("run", "--task", "depth", *words, "--calls", "", "a.png", "--json")
        assert code == 0, err
        assert json.loads(out)["output"]["unit"] == "metre"


# ------------------------------------------------------------------------------------------- who is meant


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
    assert who[AnswerScorer] == "nano", "a backend named whole is asked before who is named for text"
    assert who[FeatureExtractor] == who[TextGenerator] == "hf"
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


# --------------------------------------------------------------------------------------------------- memory


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Block:
    """A model of so many bytes that takes so many seconds to load, and has nothing to say."""

    name, max_batch = "block", 4
    provides = (DepthEstimator, PoseEstimator, ViewSynthesizer)
    clock = Clock()

    def __init__(self, path, seconds=1.0, device="cpu"):
        self.checkpoint = opened(path, wanted="a block", accepts=lambda kind: kind == "Block")
        self.fingerprint = self.checkpoint.fingerprint()
        self.seconds = seconds
        self.entered, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        self.troubles = []

    def load(self):
        from safetensors.torch import load_file

        Block.clock.now += self.seconds
        self.weights = load_file(self.checkpoint.weights[0])["weight"].clone()

    def _answer(self, requests, seeds):
        self.entered.set()
        assert self.may_end.wait(20)
        if self.troubles:
            raise self.troubles.pop()
        return [InputError(f"{len(self.weights)} bytes see nothing")] * len(requests)

    def estimate_depth(self, requests, *, seeds):
        return self._answer(requests, seeds)

    def estimate_pose(self, pairs, *, seeds):
        return self._answer(pairs, seeds)

    def synthesize_views(self, requests, *, seeds):
        return self._answer(requests, seeds)


METHODS = {"depth": "estimate_depth", "pose": "estimate_pose", "views": "synthesize_views"}


def touch(composite, capability):
    (outcome,) = getattr(composite, METHODS[capability])([None], seeds=[0])
    return str(outcome)


def state_of(composite):
    return {row.capabilities[0]: row.state for row in composite.ledger()}


@pytest.fixture
def blocks(tmp_path):
    """Make a composite of blocks: blocks(limit, depth=(bytes, seconds), …)."""
    from safetensors.numpy import save_file

    def make(limit, patience=20.0, **sizes):
        named = {}
        for capability, (size, seconds) in sizes.items():
            folder = tmp_path / capability
            folder.mkdir()
            (folder / "config.json").write_text('{"architectures": ["Block"]}')
            save_file({"weight": np.zeros(size, np.uint8)}, folder / "model.safetensors")
            named[capability] = {"backend": Block, "path": str(folder), "seconds": seconds}
        composite = Composite(named, memory={"cpu": limit}, patience=patience)
        Block.clock = composite._ledger.clock = Clock()
        return composite

    return make


def backend_in(composite, capability):
    return composite.provider_of(KINDS[capability]).backend


KINDS = {"depth": DepthEstimator, "pose": PoseEstimator, "views": ViewSynthesizer}


def test_what_is_quick_to_bring_back_goes_first(blocks):
    composite = blocks(250, depth=(100, 30.0), pose=(100, 2.0), views=(100, 1.0))
    touch(composite, "pose")
    touch(composite, "depth")
    composite._ledger.clock.now += 10
    touch(composite, "views")
    assert state_of(composite) == {"depth": "idle", "pose": "not loaded", "views": "idle"}


def test_what_nobody_has_used_for_long_goes_first(blocks):
    composite = blocks(250, depth=(100, 30.0), pose=(100, 2.0), views=(100, 1.0))
    touch(composite, "depth")
    composite._ledger.clock.now += 1000  # 30 s lost every 1000 are less than 2 every 10
    touch(composite, "pose")
    composite._ledger.clock.now += 10
    touch(composite, "views")
    assert state_of(composite) == {"depth": "not loaded", "pose": "idle", "views": "idle"}


def test_no_more_is_unloaded_than_is_needed(blocks):
    composite = blocks(1000, depth=(100, 1.0), pose=(800, 5.0), views=(700, 1.0))
    touch(composite, "depth")
    touch(composite, "pose")
    composite._ledger.clock.now += 10
    touch(composite, "views")  # depth alone would not do, and pose alone does
    assert state_of(composite) == {"depth": "idle", "pose": "not loaded", "views": "idle"}


def test_nothing_is_unloaded_in_vain(blocks):
    composite = blocks(1000, depth=(400, 1.0), pose=(1200, 5.0))
    touch(composite, "depth")
    with pytest.raises(MissingCapability) as raised:
        touch(composite, "pose")
    said = str(raised.value)
    assert (
        said.startswith("pose=") and "needs about 1.2 kB on cpu, where 600 bytes of 1.0 kB are free" in said
    )
    assert "400 bytes" in said and "\n" not in said
    assert state_of(composite) == {"depth": "idle", "pose": "not loaded"}
    assert touch(composite, "depth") == "400 bytes see nothing", "the others are not harmed"


def test_one_in_use_is_waited_for_and_never_unloaded(blocks):
    composite = blocks(150, depth=(100, 1.0), pose=(100, 1.0))
    touch(composite, "depth")
    busy = backend_in(composite, "depth")
    busy.entered.clear()
    busy.may_end.clear()
    told = []
    first = threading.Thread(target=lambda: told.append(touch(composite, "depth")))
    first.start()
    assert busy.entered.wait(20)
    second = threading.Thread(target=lambda: told.append(touch(composite, "pose")))
    second.start()
    second.join(0.2)
    assert second.is_alive() and state_of(composite)["depth"] == "in use"
    busy.may_end.set()
    first.join(20)
    second.join(20)
    assert told == ["100 bytes see nothing"] * 2
    assert state_of(composite) == {"depth": "not loaded", "pose": "idle"}


def test_waiting_has_an_end_with_the_numbers(blocks):
    composite = blocks(150, patience=0.05, depth=(100, 1.0), pose=(100, 1.0))
    touch(composite, "depth")
    busy = backend_in(composite, "depth")
    busy.entered.clear()
    busy.may_end.clear()
    thread = threading.Thread(target=touch, args=(composite, "depth"))
    thread.start()
    assert busy.entered.wait(20)
    with pytest.raises(MissingCapability, match="100 bytes on cpu, where 50 bytes of 150 bytes .* in use"):
        touch(composite, "pose")
    busy.may_end.set()
    thread.join(20)
    assert touch(composite, "pose") and state_of(composite)["depth"] == "not loaded"


def test_many_threads_on_too_little_memory_all_get_their_answers(blocks):
    composite = blocks(250, depth=(100, 1.0), pose=(100, 2.0), views=(100, 3.0))
    told, seen = [], []

    def work(start):
        for i in range(4):
            told.append(touch(composite, list(METHODS)[(start + i) % 3]))
            seen.append(sum(row.bytes for row in composite.ledger() if row.state != "not loaded"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == ["100 bytes see nothing"] * 16
    assert max(seen) <= 250


def test_what_runs_out_of_memory_is_tried_again_beside_nobody(blocks):
    composite = blocks(500, depth=(100, 1.0), pose=(100, 1.0))
    touch(composite, "depth")
    touch(composite, "pose")
    backend_in(composite, "pose").troubles += [MemoryError()]
    assert touch(composite, "pose") == "100 bytes see nothing"
    assert state_of(composite) == {"depth": "not loaded", "pose": "idle"}
    backend_in(composite, "pose").troubles += [MemoryError()]
    with pytest.raises(MemoryError):  # there is nobody left to make way: the engine halves the batch
        touch(composite, "pose")


def test_the_memory_of_a_model_that_is_unloaded_is_given_back(models, photo):
    words = [f"depth=hf:{models}/depth?device=cpu", f"pose=hf:{models}/match?device=cpu", Classical()]
    composite = Composite(words, memory={"cpu": "250 kB"})  # of 150 and 243
    assert isinstance(estimated(composite, photo), DepthMap)
    member = composite.provider_of(DepthEstimator)
    weak = weakref.ref(member.backend._model.model)
    pair = PhotoPair(photo, photo)
    composite.estimate_pose([pair], seeds=[0])
    assert weak() is None
    alive = sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects())
    assert [row.state for row in composite.ledger()] == ["not loaded", "idle", "not loaded"]
    composite.unload()
    assert held_bytes(composite) == {}
    assert sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects()) < alive
    assert isinstance(estimated(composite, photo), DepthMap) and row(composite, "depth").loads == 2


def test_tokens_that_were_read_are_counted_on_after_unloading(models):
    composite = Composite([f"text=hf:{models}/chat"])
    x = Problem.understanding(np.zeros((8, 8, 3), np.uint8), question="which", choices=["a", "b"])
    executor = Executor(backend=composite, policy=[], memo=None)
    first = executor.run(x).spent.reading
    composite.unload()
    again = executor.run(x).spent.reading
    assert first.prefilled == again.prefilled > 0
    assert composite.reading.prefilled == 2 * first.prefilled


def test_what_was_changed_on_disk_is_not_loaded_as_what_it_was(models, photo, tmp_path):
    shutil.copytree(models / "depth", tmp_path / "depth")
    composite = Composite([f"depth=hf:{tmp_path}/depth"])
    estimated(composite, photo)
    shutil.copy(models / "depth2" / "config.json", tmp_path / "depth")
    assert isinstance(estimated(composite, photo), DepthMap)
    composite.unload()
    with pytest.raises(MissingCapability, match="changed since it was chosen: start again"):
        estimated(composite, photo)


def test_an_object_that_was_given_is_never_unloaded(models, photo):
    given = HFDepth(models / "depth", device="cpu")
    composite = Composite({"depth": given, "pose": f"hf:{models}/match?device=cpu"}, memory={"cpu": "250 kB"})
    estimated(composite, photo)
    with pytest.raises(MissingCapability, match=r"loaded there: hf_depth 150 kB"):
        composite.estimate_pose([PhotoPair(photo, photo)], seeds=[0])
    composite.unload()
    assert row(composite, "hf_depth").state == "idle" and "_model" in vars(given)


def test_sizes_and_what_they_look_like():
    assert [bytes_of(s) for s in (8, "8GB", "1.5 MiB", "100", "2 kB")] == [8, 8 * 10**9, 3 << 19, 100, 2000]
    assert [shown(s) for s in (12, 1500, 150_400, 7.9e9)] == ["12 bytes", "1.5 kB", "150 kB", "7.9 GB"]
    for wrong in ("much", "-1 GB", "0 GB", 0, True, None, float("nan"), float("inf"), "1 PB"):
        with pytest.raises(PluginError, match="is no size"):
            bytes_of(wrong)


# ------------------------------------------------------------------------------------------ what goes wrong


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


def test_words_come_before_a_file_and_a_word_twice_is_an_error(models, tmp_path):
    file = tmp_path / "setup.toml"
    file.write_text("pose = 'nano'\ntext = 'nano'\n[memory]\ncpu = '8 GB'\n")
    composite = Composite(["pose=classical", str(file)])
    assert composite.provider_of(PoseEstimator).name == "classical"
    assert composite.provider_of(TextGenerator).name == "nano"
    assert composite._ledger.limits == {"cpu": 8 * 10**9}
    with pytest.raises(PluginError, match="pose=classical and pose=nano are for one capability"):
        Composite(["pose=classical", "pose=nano"])


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
