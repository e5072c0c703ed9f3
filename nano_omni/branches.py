"""What a batch of questions is answered from: many sets of contexts, each written by the model itself.

`Branches` reads photos once and goes on from there in many ways, all samples alike in shape; `reader.Reader`
serves strangers' prompts of any shape with a memory, and is what the engine uses. Both write word by word.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import captions, language, views
from .data import Rooms
from .masks import attention_mask, photo_segments, positions
from .model import Grammar, NanoOmni, Past, causal_mask, read_photos, write
from .vocabulary import INDEX, nearest
from .world.questions import Form

State = tuple[Past, int]  # what was read, and the position of the word that comes next

OWN = (
    *("pose", "thinking", "pose + thinking", "thinking + pose", "caption", "views", "latent"),
    *("pause", "caption + thinking", "views + thinking"),
    *("pose + views + thinking", "pose + caption + thinking"),
)
ORACLE = ("oracle pose", "oracle thinking", "oracle pose + thinking", "oracle caption", "oracle views")
SHUFFLED = ("shuffled pose", "shuffled thinking", "shuffled pose + thinking", "shuffled views")
BLANK = ("blank photos", "blank photos, pose + thinking")
ROWS = ("direct", *OWN, *ORACLE, *SHUFFLED, *BLANK)


class Branches:
    """Photos (B, V, 3, S, S) read once, to be continued: each method returns a new state, the old one stays
    good. `start` is the state after the photos."""

    def __init__(self, model: NanoOmni, photos: Tensor) -> None:
        self.model = model
        tree = photo_segments(model.config.grid**2, photos.shape[1])
        place = positions(tree)
        mask = attention_mask(tree).to(photos.device)
        past = read_photos(model, photos, mask, place.to(photos.device))
        self.start: State = past, int(place[-1]) + 1

    def read(self, state: State, words: Tensor) -> State:
        """Words (B, n) that are given."""
        return self._read(state, self.model.embed(words))[0]

    def _read(self, state: State, embedded: Tensor) -> tuple[State, Tensor]:
        past, position = state
        count = embedded.shape[1]
        place = torch.arange(count, device=embedded.device) + position
        mask = causal_mask(past[0][0].shape[2], count, embedded.device)
        x, past = self.model.run(embedded.to(past[0][0].dtype), place, mask, past)
        return (past, position + count), x

    def say(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        """Words (B, n) that are given, and what the model would say after each: logits (B, n, vocabulary)."""
        state, x = self._read(state, self.model.embed(words))
        return state, self.model.head(x)

    def write(
        self,
        state: State,
        opening: Sequence[int],
        length: int,
        grammar: Grammar | None = None,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[State, Tensor]:
        """A context of `length` words that starts with `opening`: new state, words (B, length)."""
        past, position = state
        prompt = torch.tensor(opening, device=self.model.device).expand(_batch(state), -1)
        words, _, past = write(self.model, prompt, length, position, past, grammar, temperature, generator)
        return (past, position + length), words

    def think_latent(self, state: State) -> State:
        """Hidden states of the model, read as context."""
        words = torch.full((_batch(state), language.LATENTS), INDEX["<latent>"], device=self.model.device)
        _, hidden = self._read(state, self.model.embed(words))
        return self._read(state, hidden)[0]

    def answer(self, state: State, choices: Tensor) -> Tensor:
        """Logits (B, n) of the choices (B, n), words."""
        past, position = state
        prompt = torch.full((_batch(state), 1), INDEX["<answer>"], device=self.model.device)
        _, logits, _ = write(self.model, prompt, 1, position, past)
        return logits.float().gather(1, choices)


def repeat(state: State, times: int) -> State:
    """Every sample `times` times, one after another, to be continued each in its own way."""
    past, position = state
    return tuple((k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in past), position


def _batch(state: State) -> int:
    return state[0][0][0].shape[0]


def parts(row: str) -> list[str]:
    """The contexts that a row names, in their order: "pose + thinking" has two, "direct" none."""
    return [] if row == "direct" else row.split(" + ")


def given_pose(written: Tensor) -> Tensor:
    """A pose as it is read, of one as it was worked out: (B, POSING_LENGTH) -> (B, POSE_LENGTH)."""
    return torch.cat([written[:, :1], written[:, 1 + language.WORKINGS :]], dim=1)


@torch.no_grad()
def unroll(
    model: NanoOmni, batch: Rooms, form: Form, rows: Sequence[str] = ROWS
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits of the choices (B, n) by row, and the words of contexts that were written, by what they are.

    rows: "direct"; contexts joined by " + ", in any order, of pose, thinking, caption, views, latent, pause;
    the same from an oracle or shuffled ("oracle pose + thinking"), where ROWS have them; BLANK. Raises
    ValueError for others.
    """
    asked = batch.asked[form]
    told = Branches(model, batch.photos)
    written = look_around(told, rows)
    question = told.read(told.start, asked.question)
    long = language.think_length(form)
    pose, think, caption = nearest(batch.pose), nearest(asked.think), nearest(batch.caption)
    seen = batch.views[:, : len(views.CONTEXT)].flatten(1)
    # Another room's numbers, but the names that this question says (to count, it says none).
    kept = ("tag",) if form == "count" else ("tag", "name")
    own = torch.tensor([role in kept for role in language.roles(form)], device=think.device)
    other_pose, other_think = pose.roll(1, 0), torch.where(own, think, think.roll(1, 0))

    given = {"pose": given_pose(written["pose"])} | {k: v for k, v in written.items() if k != "pose"}
    of = {
        "oracle": {"pose": pose, "thinking": think, "caption": caption, "views": seen},
        "shuffled": {"pose": other_pose, "thinking": other_think, "views": seen.roll(1, 0)},
    }
    pauses = torch.full((len(batch), language.POSE_LENGTH + long), INDEX["<pause>"], device=think.device)

    def state_of(row: str) -> State:
        """After the contexts that a row names, one from the other."""
        whose, _, rest = row.partition(" ")
        held = of.get(whose, given)
        state, before = question, ""
        for part in parts(rest if whose in of else row):
            if part in held:
                state = told.read(state, held[part])
            elif part == "thinking":
                state, words = told.write(state, [INDEX["<think>"]], long)
                written.setdefault("thinking" + before, words)
            elif part == "latent":
                state = told.think_latent(state)
            elif part == "pause":
                state = told.read(state, pauses)
            else:
                raise ValueError(f"no row is called {row!r}: there is no {part}")
            before = f"{before} and {part}" if before else f" after {part}"
        return state

    logits = {row: told.answer(state_of(row), asked.choices) for row in rows if row not in BLANK}
    if any(row in rows for row in BLANK):
        grey = Branches(model, torch.full_like(batch.photos, 128))
        asked_blind = grey.read(grey.start, asked.question)
        logits["blank photos"] = grey.answer(asked_blind, asked.choices)
        guess = given_pose(look_around(grey, ("pose",))["pose"])
        state, _ = grey.write(grey.read(asked_blind, guess), [INDEX["<think>"]], long)
        logits["blank photos, pose + thinking"] = grey.answer(state, asked.choices)
    return logits, written


@torch.no_grad()
def look_around(told: Branches, rows: Sequence[str] = ROWS) -> dict[str, Tensor]:
    """What is written without a question, one from the other: pose, caption, the two views of the context."""
    posed, pose = told.write(told.start, [INDEX["<campose>"]], language.POSING_LENGTH)
    written = {"pose": pose}
    if not any("caption" in row or "views" in row for row in rows):
        return written
    captioned, written["caption"] = told.write(
        posed, [INDEX["<caption>"]], captions.CAPTION_LENGTH, captions.CAPTION_GRAMMAR
    )
    if any("views" in row for row in rows):
        drawn = [told.write(captioned, views.opening(0, *one), views.LENGTH)[1] for one in views.CONTEXT]
        written["views"] = torch.cat(drawn, dim=1)
    return written
