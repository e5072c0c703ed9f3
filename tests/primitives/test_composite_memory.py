"""The ledger of device memory: who makes way for whom, never one in use, and memory that is given back."""

import gc
import shutil
import threading
import weakref

import numpy as np
import pytest

from unroller import Executor, Problem
from unroller.capabilities import (
    DepthEstimator,
    DepthRequest,
    PhotoPair,
    PoseEstimator,
    ViewSynthesizer,
)
from unroller.faults import InputError, MissingCapability, PluginError
from unroller.values import DepthMap, Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny.several import save_several  # noqa: E402

from primitives.backends.checkpoints import opened  # noqa: E402
from primitives.backends.classical import Classical  # noqa: E402
from primitives.backends.composite import Composite  # noqa: E402
from primitives.backends.composite.holding import bytes_of, held_bytes, shown  # noqa: E402
from primitives.backends.hf_depth import HFDepth  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_several(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photo():
    return Image(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def estimated(backend, photo, seed=0):
    (outcome,) = backend.estimate_depth([DepthRequest(photo)], seeds=[seed])
    return outcome


def row(composite, name):
    (found,) = [row for row in composite.ledger() if row.model.endswith(name)]
    return found


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
