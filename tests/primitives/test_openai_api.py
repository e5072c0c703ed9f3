"""A model behind a server of OpenAI's chat protocol: a real one (`transformers serve`, a tiny checkpoint), and a
small one that fails in every way a server can."""

import base64
import io
import json
import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tiny.chat_server import (
    SmallServer,
    TransformersServe,
    cut,
    drip,
    error,
    free_port,
    hang,
    hang_up,
    said,
    status,
)

from primitives.backends.openai_api import OpenAIServer, asking, messages
from primitives.backends.openai_api.refusals import asked_to_wait
from primitives.backends.openai_api.scoring import by_words
from primitives.thinking import oracle_from, text_think
from unroller import Budget, Executor, Problem, Text, decoder
from unroller.capabilities import AnswerScorer, Generation, Prompt, TextGenerator
from unroller.check.backends import check_backend
from unroller.check.findings import Findings
from unroller.cost import Cost, Reading
from unroller.faults import InputError, MissingCapability, NoAnswer, PluginError
from unroller.rendering import ImageSegment, TextSegment

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch):
    """No setting from this machine's environment, and short waits between attempts."""
    for name in ("BASE_URL", "MODEL", "PRICES", "ANSWERS", "EXTRA"):
        monkeypatch.delenv(f"UNROLLER_OPENAI_{name}", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.02)


def backend(server, model="small", **settings):
    return OpenAIServer(server.url, model, **{"timeout": 20.0, "patience": 5.0} | settings)


def picture(seed, height=24, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def asked(*more, told="Think step by step.", photos=(1, 2), system=""):
    """Two photos of different sizes, a question, and what was written since."""
    shown = [ImageSegment(picture(p, 20 + p, 36 - 3 * p), f"photo {i + 1}") for i, p in enumerate(photos)]
    return Prompt((*shown, TextSegment("where is the red cone"), *more), told, system)


def words(text):
    return Prompt((TextSegment(text),))


def written(backend, prompts, temperature=0.0, max_tokens=10, seeds=None):
    seeds = seeds or list(range(len(prompts)))
    return backend.generate_text(prompts, max_tokens=max_tokens, temperature=temperature, seeds=seeds)


def one(backend, prompt=None, **how):
    """The outcome of one prompt."""
    return written(backend, [prompt or words("hello")], **how)[0]


def spatial(**more):
    return Problem.spatial(
        picture(1), picture(2, 30, 20), question="where is the cone", choices=["left", "right"], **more
    )


@decoder(task="last", writes=Text, reads=(Text,))
def last(view):
    """The newest text, for runs that need no scorer."""
    return view.latest(Text) or Text("nothing")


def thinking(backend, **more):
    return Executor(
        backend=backend, primitives=[text_think], decoders=[last], policy=["text_think"], memo=None, **more
    )


# -------------------------------------------------------------------------------------- transformers serve


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One with random weights, and one that is made to say "left" by its own generation settings."""
    from tiny.chat_models import llava, saved

    random = saved(tmp_path_factory.mktemp("llava"), llava(longest=4096))
    model, others = llava(longest=4096)
    left = others[0].tokenizer(" left", add_special_tokens=False)["input_ids"]
    model.generation_config.sequence_bias = [[left[: i + 1], 200.0] for i in range(len(left))]
    return {"random": str(random), "left": str(saved(tmp_path_factory.mktemp("left"), (model, others)))}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = TransformersServe(tmp_path_factory.mktemp("serve") / "log").start()
    yield server
    server.kill()


def test_a_served_model_writes_what_it_writes_here(served, checkpoints):
    from primitives.backends.hf_vlm import HFVLM

    remote = backend(served, checkpoints["random"])
    here = HFVLM(checkpoints["random"], device="cpu", dtype="float32")
    view = ImageSegment(picture(7), "a view"), TextSegment("<think>so it is left</think>")
    prompts = [asked(), asked(*view, photos=(3,)), asked(photos=()), asked(*view, told="Answer.")]
    for ours, theirs in zip(written(remote, prompts), written(here, prompts), strict=True):
        assert (ours.text, ours.tokens) == (theirs.text, theirs.tokens)
    assert remote.reading == here.reading.__class__(remote.reading.prefilled, 0, here.reading.written)
    assert remote.reading.prefilled > 4 * 17  # pictures have their tokens


def test_it_keeps_the_contract_of_backends(served, checkpoints):
    findings = Findings("openai")
    check_backend(backend(served, checkpoints["random"], answers="none"), findings, problems=None)
    assert not findings.failures, findings.failures


def test_a_server_without_log_probabilities_scores_no_answers_unless_asked_to_write_them(served, checkpoints):
    silent = backend(served, checkpoints["left"])
    assert silent.provides == (TextGenerator,)
    with pytest.raises(MissingCapability, match="openai lacks log-probabilities .* answers='written'"):
        Executor(backend=silent, policy=["text_think"]).run(spatial())
    run = Executor(backend=backend(served, checkpoints["left"], answers="written"), policy=[]).run(spatial())
    assert run.output.text == "left" and run.output.probabilities == (1.0, 0.0)


def test_a_server_that_is_killed_in_the_middle_of_a_batch_and_started_again_loses_nothing(served, checkpoints):
    remote = backend(served, checkpoints["random"], patience=90.0, concurrency=4)
    prompts = [asked(photos=(1 + i % 3, 2)) for i in range(20)]
    (expected,) = {g.text for g in written(remote, [prompts[0]] * 2, max_tokens=120)}
    before, outcomes = remote.reading.written, []
    batch = threading.Thread(target=lambda: outcomes.extend(written(remote, prompts, max_tokens=120)))
    batch.start()
    while remote.reading.written == before:
        time.sleep(0.01)
    served.kill()
    answered = (remote.reading.written - before) // 120
    assert batch.is_alive() and answered < 20
    served.start()
    batch.join()
    assert all(isinstance(g, Generation) for g in outcomes), outcomes
    assert len(outcomes) == 20 and {g.text for g in outcomes[::3]} == {expected}
