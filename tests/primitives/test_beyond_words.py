"""Contexts that are not words: visual tokens that a model rolls out, and the states it was in.

The backend is the stand-in that `unroller check` uses: its tokens mean nothing, and follow from what it read.
"""

import numpy as np
import pytest

from primitives.latents import latent_think
from primitives.thinking import text_think
from primitives.visual_tokens import visual_token_rollout
from unroller import Call, Executor, Latents, Problem, Text, VisualTokens, decoder
from unroller.check.standin import StandIn


class Watched(StandIn):
    """Keeps the prompts that it was given."""

    def __init__(self):
        self.rolled, self.thought, self.asked = [], [], []

    def roll_out_tokens(self, prompts, *, count, temperature, seeds):
        self.rolled.append(list(prompts))
        self.asked.append((count, temperature, list(seeds)))
        return super().roll_out_tokens(prompts, count=count, temperature=temperature, seeds=seeds)

    def hidden_states(self, prompts):
        self.thought.append(list(prompts))
        return super().hidden_states(prompts)


@decoder(task="spatial", reads=(VisualTokens, Latents), writes=Text)
def seen(view):
    return Text(
        " | ".join([v.words() for v in view.all(VisualTokens)] + [v.words() for v in view.all(Latents)])
    )


def executor(calls, **options):
    backend = Watched()
    primitives = [text_think, visual_token_rollout, latent_think]
    return backend, Executor(
        backend=backend, primitives=primitives, decoders=[seen], policy=list(calls), **options
    )


def problem(room=1, draw=0):
    photos = [np.random.default_rng([room, i]).integers(0, 256, (8, 8, 3), np.uint8) for i in range(2)]
    return Problem.spatial(*photos, question="Where is the cone?", seed=draw)


def ids(run):
    return next(e.value.ids for e in run.entries if isinstance(e.value, VisualTokens)).tolist()


def test_tokens_are_rolled_out_after_all_that_was_written_and_are_context_for_what_follows():
    backend, ex = executor(["text_think", Call("visual_token_rollout", {"count": 16}), "latent_think"])
    run = ex.run(problem())
    assert run.output.text == "16 visual tokens of stand-in | 6 hidden states of stand-in"
    [[sketching]], [[thinking]] = backend.rolled, backend.thought
    assert (sketching.writes, thinking.writes) == ("visual_tokens", "latents")
    thought = run.entries[0].value.text
    assert any(thought in getattr(segment, "text", "") for segment in sketching.segments)
    # States are read off everything before them: the same beginning, and the tokens themselves.
    shared = len(sketching.segments)
    assert [type(s) for s in thinking.segments[:shared]] == [type(s) for s in sketching.segments]
    assert thinking.segments[shared].tokens.tolist() == ids(run)


def test_tokens_are_charged_one_by_one_and_states_as_one_call():
    _, ex = executor([Call("visual_token_rollout", {"count": 16})])
    assert (ex.run(problem()).cost.model_calls, ex.run(problem()).cost.tokens) == (1, 16)
    _, ex = executor(["latent_think"])
    assert (ex.run(problem()).cost.model_calls, ex.run(problem()).cost.tokens) == (1, 0)


def test_a_roll_out_that_a_budget_has_no_room_for_is_not_begun():
    backend, ex = executor([Call("visual_token_rollout", {"count": 16})], budget={"tokens": 15})
    run = ex.run(problem())
    assert not run.entries and not backend.rolled and run.output.text == ""


def test_freely_drawn_tokens_repeat_with_their_seed_and_differ_without():
    def drawn(temperature):
        _, ex = executor([Call("visual_token_rollout", {"count": 32, "temperature": temperature})], memo=None)
        return [ids(ex.run(problem(draw=seed))) for seed in (1, 1, 2)]

    first, again, other = drawn(1.0)
    assert first == again != other
    first, again, other = drawn(0.0)
    assert first == again == other


def test_problems_go_to_the_model_together_and_one_without_a_picture_does_not_stop_its_mates():
    calls = [Call("visual_token_rollout", {"count": 8}), "latent_think"]
    backend, ex = executor(calls)
    problems = [problem(1), problem(2), problem(3)]
    runs = list(ex.map(problems))
    assert [len(batch) for batch in backend.rolled] == [3] and [len(batch) for batch in backend.thought] == [
        3
    ]
    assert [ids(run) for run in runs] == [ids(executor(calls)[1].run(x)) for x in problems]
    blind = Problem(task="spatial", question="Where is the cone?")
    run = ex.run(blind)
    assert [type(e.value) for e in run.entries] == [Latents]  # a roll-out needs a photo; a thought does not


@pytest.mark.parametrize("wrong", [{"count": 0}, {"temperature": -1.0}, {"temperature": float("inf")}])
def test_settings_that_mean_nothing_are_refused(wrong):
    backend, ex = executor([Call("visual_token_rollout", wrong)])
    [fault] = ex.run(problem()).faults
    assert fault.phase == "refused" and next(iter(wrong)) in fault.message and not backend.rolled
