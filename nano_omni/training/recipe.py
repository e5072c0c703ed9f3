"""How the nano model is trained: the numbers of a run, and the stages that it goes through."""

from dataclasses import dataclass, replace

from ..world.questions import FORMS, Form

_AFTER = ("views", "caption", "latent", "told")  # groups that ask one form of question at a time


@dataclass(frozen=True)
class Recipe:
    """How to train. batch: rooms a step; draw: batches drawn at a time; steps, or budget in seconds of
    training (0: by steps); rates of Muon and AdamW; warmup steps; decay: share of training in which rates
    fall to 0; own: share at the end in which contexts are self-written, for `own_rooms` of the rooms, in
    `rounds` of Jacobi decoding; noise: share of context numbers moved by a step; groups: what a step is
    about, one of `forest.GROUPS`, and the forms of questions it asks, by turns; tree: what is read before
    answering, one of `forest.TREES`; see: share at the beginning in which nothing is asked: poses and
    objects only, short and quickly learned; narrow: products in bfloat16 on processors that are made for it
    (GPUs always)."""

    batch: int = 48
    draw: int = 8
    steps: int = 6000
    budget: float = 0.0
    muon: float = 0.02
    adam: float = 2e-3
    warmup: int = 100
    decay: float = 0.45
    own: float = 0.25
    own_rooms: float = 0.75
    rounds: int = 2
    noise: float = 0.5
    loss_weights: tuple[float, float, float, float, float] = (1.0, 2.0, 1.0, 1.0, 1.0)
    check_every: int = 250
    check_questions: int = 256
    groups: tuple[tuple[str, tuple[Form, ...]], ...] = tuple(
        turn
        for k in range(len(_AFTER) * len(FORMS))
        for turn in (
            *(("chain", (1, 4)), ("chain", (2, 3)), ("tally", ("count", "compare"))),
            *(("chain", (1, 4)), ("chain", (2, 3)), (_AFTER[k % len(_AFTER)], (FORMS[k // len(_AFTER)],))),
        )
    )
    tree: str = "full"
    see: float = 0.2
    narrow: bool = False


RECIPES = {
    "tiny": Recipe(batch=4, draw=2, steps=20, warmup=2, check_every=10, check_questions=4, see=0.0),
    "cpu": Recipe(batch=24, draw=16, steps=8000, check_every=1000, rounds=1, see=0.15),
    "gpu": Recipe(
        batch=512, draw=8, budget=960, steps=0, adam=1.5e-3, warmup=150, check_every=500, check_questions=1024
    ),
}

STAGES = {"see": lambda recipe: recipe.see, "ask": lambda recipe: 1 - recipe.own, "own": lambda recipe: 1.0}
"""What each stage is called, and the progress at which it ends: looking only, then questions and contexts
that hold the truth, then contexts that the model wrote itself."""


def again(recipe: Recipe) -> Recipe:
    """To train finished weights for longer: rates rise to half of what they were and fall to 0 over all of
    it, and most rooms read self-written contexts from the first step on. Take a seed of its own: a seed's
    rooms are the same ones again."""
    return replace(recipe, muon=recipe.muon / 2, adam=recipe.adam / 2, decay=1.0, see=0.0, own=1.0)
