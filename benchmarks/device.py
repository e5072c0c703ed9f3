"""One GPU, one chat model, 32 problems together: what unroller adds to the same calls made directly.

    python benchmarks/device.py [--device cuda] [--quick] [--json PATH]
    python benchmarks/device.py --tiny --device cpu      # whether it runs, in a minute, and no figures

A Qwen3-VL of 1.6 B random parameters in bfloat16, made and saved here; photos of 448 x 448 pixels. Three
primitives and an answer: thinking, a caption, a caption of depth, the probabilities of three choices.

*Calls*: a map over 32 problems that were never seen, in turns with the very calls that such a map makes of
the backend, recorded and made again by a plain loop. Before each, what was read and the pictures that were
made ready are let go. Wall clock.

*Idle*: the part of a map's wall clock in which no call of the backend was under way. A call ends when its
texts and probabilities are on the host, so that is when the GPU waits for unroller.

*Ledger*: what it says that the model takes, against what torch has allocated for it: expected of the files
before loading, counted after loading, counted with keys and values.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import OURS, Contender, Race, Report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from tiny.chat_models import TURNS, tokenizer

from primitives.backends.composite import Composite
from primitives.backends.hf_vlm import HFVLM
from unroller import Call, Executor, Problem

DIRECT = "direct calls"
TOGETHER = 32
METHODS = ("generate_text", "score_answers")

LARGE = {
    "text": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 151_936,
        "mrope_section": [24, 20, 20],
    },
    "vision": {"hidden_size": 768, "intermediate_size": 3072, "depth": 12, "num_heads": 12, "patch_size": 16},
    "side": 448,
    "written": 64,
}
TINY = {
    "text": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "mrope_section": [4, 2, 2],
    },
    "vision": {"hidden_size": 32, "intermediate_size": 32, "depth": 2, "num_heads": 2, "patch_size": 4},
    "side": 32,
    "written": 8,
}


def checkpoint(folder: Path, shape: dict[str, Any], device: str) -> Path:
    """A Qwen3-VL of this shape with random weights in bfloat16, its tokenizer and its processor."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    marks = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    marks |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    words = tokenizer(marks | {"turn": "<|im_start|>", "end": "<|im_end|>"})
    words.chat_template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    text, vision = dict(shape["text"]), dict(shape["vision"])
    section = text.pop("mrope_section")
    rope = {"rope_type": "default", "mrope_section": section, "rope_theta": 5e6, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "max_position_embeddings": 32_768,
            "rope_parameters": rope,
            "eos_token_id": 1,
            **text,
        },
        vision_config={
            **vision,
            "out_hidden_size": text["hidden_size"],
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0, vision["depth"] // 2],
        },
        tie_word_embeddings=True,
        **{f"{name}_id": getattr(words, f"{name}_id") for name in marks},
    )
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = Qwen3VLForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    patch = vision["patch_size"]
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": shape["side"] ** 2}
    Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, size=pixels).save_pretrained(folder)
    return folder


def problem(seed: int, side: int) -> Problem:
    rng = np.random.default_rng(seed)
    photos = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(2)]
    question = " ".join(rng.choice(["red", "cone", "left", "behind", "photo", "where", "is", "the"], 30))
    return Problem.spatial(*photos, question=question, choices=["left", "right", "behind"])


def calls(written: int) -> list[Call]:
    names = ("text_think", "detailed_caption", "depth_caption")
    return [Call(name, {"max_tokens": written}) for name in names]


class Watch:
    """The backend's calls: when each began and ended, and, while `kept` is a list, with what it was made."""

    def __init__(self, backend: HFVLM) -> None:
        self.spans: list[tuple[float, float]] = []
        self.kept: list[Callable[[], Any]] | None = None
        for name in METHODS:
            setattr(backend, name, self._watched(getattr(backend, name)))

    def _watched(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.kept is not None:
                self.kept.append(lambda: inner(*args, **kwargs))
            begun = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.spans.append((begun, time.perf_counter()))

        return call

    def busy(self) -> float:
        """Seconds in calls since it was last asked."""
        spans, self.spans = self.spans, []
        return sum(end - begun for begun, end in spans)


def _calls_and_idle(report: Report, folder: Path, shape: dict[str, Any], device: str, quick: bool) -> None:
    backend = HFVLM(folder, device=device, max_batch=TOGETHER)
    watch = Watch(backend)
    executor = Executor(backend=backend, policy=calls(shape["written"]), memo=None)
    seeds = iter(range(0, 10**9, TOGETHER))
    idle: list[float] = []

    def problems() -> list[Problem]:
        first = next(seeds)
        return [problem(first + k, shape["side"]) for k in range(TOGETHER)]

    def fresh() -> list[Problem]:
        made = problems()
        _let_go(backend, device)
        return made

    def ours(given: list[Problem]) -> Any:
        watch.busy()
        begun = time.perf_counter()
        runs = list(executor.map(given))
        _finish(device)
        wall = time.perf_counter() - begun
        idle.append(100 * (1 - watch.busy() / wall))
        return runs

    def recorded() -> list[Callable[[], Any]]:
        watch.kept = []
        list(executor.map(problems()))
        made, watch.kept = watch.kept, None
        _let_go(backend, device)
        return made

    def direct(made: list[Callable[[], Any]]) -> Any:
        outcomes = [call() for call in made]
        _finish(device)
        return outcomes

    def check(_: Any, runs: Any) -> None:
        assert all(run.output is not None and not run.faults for run in runs)

    def check_calls(made: Any, outcomes: Any) -> None:
        assert len(made) == 4 and all(len(one) == TOGETHER for one in outcomes)

    contenders = [
        Contender(OURS, ours, fresh, TOGETHER, check, repeat=1),
        Contender(DIRECT, direct, recorded, TOGETHER, check_calls, repeat=1),
    ]
    timings = (Race(3, 60, clock="wall") if quick else Race(9, 420, clock="wall"))(contenders)
    report.section("calls", f"{TOGETHER} problems, three texts and an answer", timings, "ms/run", "wall")
    more = 100 * (timings[OURS].times(timings[DIRECT]) - 1)
    report.target("over the same direct calls", 3, more, "%")
    report.target("wall clock outside the backend's calls", 2, float(np.median(idle[1:] or idle)), "%")


def _ledger(report: Report, folder: Path, shape: dict[str, Any], device: str) -> None:
    """What a composite's ledger says against what torch allocated since before the model was loaded."""
    _finish(device)
    before = _allocated(device)
    composite = Composite([f"text=hf:{folder}?device={device}&max_batch={TOGETHER}"])
    rows: dict[str, dict[str, Any]] = {}

    def note(name: str) -> None:
        gc.collect()
        _finish(device)
        (row,) = composite.ledger()
        there = None if before is None else (_allocated(device) or 0) - before
        off = None if not there else 100 * (row.bytes / there - 1)
        rows[name] = {"ledger, MB": row.bytes / 1e6, "allocated, MB": there and there / 1e6, "off, %": off}

    (row,) = composite.ledger()
    expected = row.bytes
    executor = Executor(backend=composite, policy=calls(shape["written"]), memo=None)
    list(executor.map([problem(k, shape["side"]) for k in range(10**9, 10**9 + 1)]))
    note("loaded, one problem read")
    list(executor.map([problem(k, shape["side"]) for k in range(2 * 10**9, 2 * 10**9 + TOGETHER)]))
    note(f"{TOGETHER} problems read")
    rows["expected of the files"] = {"ledger, MB": expected / 1e6}
    report.facts("ledger", "What the ledger says", rows)
    for name, one in rows.items():
        if "off, %" in one:
            off = one["off, %"]
            report.target(f"ledger: {name}", 10, None if off is None else abs(off), "% off")


def _let_go(backend: HFVLM, device: str) -> None:
    backend.reader.memory.forget()
    backend.reader.chat.processor.image_processor.forget()
    gc.collect()
    _finish(device)


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _allocated(device: str) -> int | None:
    return torch.cuda.memory_allocated(device) if device.startswith("cuda") else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three rounds; noisier figures")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the result")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu with --tiny")
    parser.add_argument("--tiny", action="store_true", help="a model of 0.2 M parameters: whether it runs")
    options = parser.parse_args()
    device: str = options.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(3, "no CUDA GPU that torch can use: --tiny --device cpu shows that this runs\n")
    shape = TINY if options.tiny else LARGE
    name = "device-tiny" if options.tiny else "device"
    report = Report(name, "A chat model on one device, and unroller around it", options.quick)
    on = torch.cuda.get_device_name(device) if device.startswith("cuda") else "the processor"
    report.remark(f"on {on}, torch {torch.__version__}")
    if options.tiny:
        report.remark("a tiny model: that the script runs is all that these figures say")
    with tempfile.TemporaryDirectory() as made:
        folder = checkpoint(Path(made), shape, device)
        gc.collect()
        _calls_and_idle(report, folder, shape, device, options.quick or options.tiny)
        gc.collect()
        _ledger(report, folder, shape, device)
    report.finish(options.json, ["torch", "transformers", "unroller"])


if __name__ == "__main__":
    main()
