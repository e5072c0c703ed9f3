"""What the embedded model costs: one unrolling, many through `map`, and a cold start.

    python benchmarks/nano.py [--quick] [--json PATH]

Pose, thinking and an answer for spatial questions. Beside `map` stands the loop one writes first: the same
weights, one problem after the other, each word from a full pass over all that stands before it. Both write
the same words (checked). Tokens are counted by the model's reader: read, found again, written.

A random policy's rollouts on questions of every form, so with contexts of every length, are worked on in
batches of about one length; beside that stands the same where only chains of one length share a batch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from measure import OURS, Contender, Race, Report, arguments

from nano_omni import language, nodes, tokenizer
from nano_omni.masks import attention_mask, photo_segments, positions
from nano_omni.vocabulary import INDEX, WRITABLE
from nano_omni.world.questions.chains import CHOICES
from policies.random import RandomPolicy
from primitives.backends.nano import Nano, rooms
from primitives.backends.nano.prompts import photos_of
from unroller import Executor, Problem

CALLS = ["camera_pose_estimate", "text_think"]
PLAIN = "plain loop"
EQUAL = "equal lengths only"
WRITERS = ["camera_pose_estimate", "text_think", "detailed_caption", "latent_think"]


def loaded() -> Nano:
    """The backend with its weights read, and nothing remembered."""
    backend = Nano()
    assert backend.reader is not None
    return backend


def executor() -> Executor:
    return Executor(backend=loaded(), policy=CALLS, memo=None)


def wandering() -> Executor:
    """A random policy, which is the same for the same problems."""
    return Executor(backend=loaded(), primitives=WRITERS, policy=RandomPolicy(0.25), memo=None)


def by_length(ex: Executor, problems: list[Problem]) -> list[Any]:
    """Unrolled in batches of equal lengths alone."""
    kept = nodes.SPREAD, nodes.SLACK
    nodes.SPREAD, nodes.SLACK = 1.0, 0
    try:
        return list(ex.map(problems))
    finally:
        nodes.SPREAD, nodes.SLACK = kept


def plain_loop(backend: Nano, problems: list[Problem]) -> list[str]:
    """One problem at a time, no cache: what a script of thirty lines does."""
    model, words = backend.reader.model, tokenizer.build()
    said = []
    with torch.no_grad():
        for x in problems:
            photos = photos_of([image.pixels for image in x.images], model.config.photo)[None]
            _, question = tokenizer.question_words(words, x.question or "")
            pose = [INDEX["<campose>"]]
            for may in language.POSING_GRAMMAR.words:
                pose.append(_next(model, photos, pose, may))
            pose = [pose[0], *pose[1 + language.WORKINGS :], INDEX["</campose>"]]
            thought = [INDEX["<think>"]]
            while thought[-1] != INDEX["</think>"]:
                thought.append(
                    _next(model, photos, [*question, *pose, *thought], (*WRITABLE, INDEX["</think>"]))
                )
            choices = [INDEX[word] for word in CHOICES[2]]
            read = [*question, *pose, *thought, INDEX["<answer>"]]
            said.append(CHOICES[2][choices.index(_next(model, photos, read, choices))])
    return said


def _next(model: Any, photos: Any, text: list[int], may: Any) -> int:
    """The most probable of the words that may come next, from a full pass."""
    tree = photo_segments(model.config.grid**2)
    begin = int(positions(tree)[-1]) + 1
    place = torch.cat([positions(tree), torch.arange(len(text)) + begin])
    count = len(place) - len(text)
    mask = torch.ones(len(place), len(place), dtype=torch.bool).tril()
    mask[:count, :count] = attention_mask(tree)
    logits = model(photos, torch.tensor([text]), place, mask, torch.tensor([len(place) - 1])).logits
    may = list(may)
    return may[int(logits[0, 0, may].argmax())]


def main() -> None:
    options = arguments(__doc__)
    report = Report("nano", "The embedded model", options.quick)
    many = 64 if options.quick else 256
    problems = rooms.many(range(many), hops=2)
    few = problems[: 4 if options.quick else 16]

    def checked(_: Any, runs: list[Any]) -> None:
        got = [run.output.text for run in runs if run.output is not None]
        assert len(got) > 0.8 * len(runs), "refused"

    race = Race(3, 10) if options.quick else Race(7, 60)
    timings = race(
        [
            Contender(OURS, lambda ex: list(ex.map(problems)), executor, many, checked, 1),
            Contender(PLAIN, lambda backend: plain_loop(backend, few), loaded, len(few), repeat=1),
        ]
    )
    report.section("map", f"{many} unrollings: pose, thinking, answer", timings, "ms/problem", "wall")
    faster = timings[PLAIN].times(timings[OURS])
    report.target("map against the plain loop", 15, faster, "times", at_least=True)

    asked = rooms.many(range(many), hops=0, ask="all")
    rollouts = race(
        [
            Contender(OURS, lambda ex: list(ex.map(asked)), wandering, many, checked, 1),
            Contender(EQUAL, lambda ex: by_length(ex, asked), wandering, many, checked, 1),
        ]
    )
    report.section("rollouts", f"{many} random rollouts, all forms", rollouts, "ms/problem", "wall")

    pairs = zip(executor().map(few), plain_loop(loaded(), few), strict=True)
    same = [run.output.text == said for run, said in pairs if run.output is not None]
    report.facts("same", "Answers equal to the plain loop's", {OURS: {"equal": sum(same), "of": len(same)}})

    warm = executor()
    list(warm.map(problems[:1]))
    one = Race(5, 5)([Contender("one unrolling", warm.run, lambda: problems[next(_fresh)], 1, repeat=1)])
    report.section("one", "One unrolling, weights loaded", one, "ms", "wall")
    report.target("one unrolling", 1.5, one["one unrolling"].median, "s")

    reader = executor()
    list(reader.map(problems))
    held = reader.backends[0].reader
    report.facts(
        "tokens",
        f"Tokens over {many} unrollings",
        {OURS: {"read": held.prefilled, "found again": held.reused, "written": held.written}},
    )
    command = [sys.executable, "-m", "unroller", "run", "--task", "spatial", "--problem", "rooms:1", "--json"]
    colds = []
    for _ in range(1 if options.quick else 3):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "-o", f"{folder}/run"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            assert process.stderr is not None
            process.stderr.readline()
            colds.append(time.perf_counter() - started)
            process.communicate()
    report.target("first line of a cold start", 3, sorted(colds)[len(colds) // 2], "s")
    report.finish(options.json, ["torch", "unroller"])


_fresh = iter(range(1, 200))

if __name__ == "__main__":
    main()
