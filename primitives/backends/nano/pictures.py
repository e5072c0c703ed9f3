"""Pictures that the embedded model draws: what it is asked for, thinks, rolls out and draws of it.

A prompt is one of the grammar of `nano_omni.world.prompts`, up to what the model was taught (four objects of
three kinds). Contexts are its own: thinking, a plan, visual tokens of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from primitives.backends.nano.prompts import CODEBOOK, context_of
from unroller.arrays import to_numpy
from unroller.capabilities import Generation, Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, TextSegment, TokenSegment
from unroller.values import Image, VisualTokens


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn, in words: the prompt's, and of each context whether it is a roll-out, and its
    words."""

    prompt: list[int]
    contexts: list[tuple[bool, list[int]]] = field(default_factory=list)


def is_drawing(prompt: Prompt) -> bool:
    """Whether a prompt is about a picture that there is not yet: it begins with words."""
    return not prompt.segments or not isinstance(prompt.segments[0], ImageSegment)


def wanted_of(prompt: Prompt, tokenizer: Any) -> Wanted:
    """Read a prompt. Raises InputError for what the model has no words for, or was not taught to draw."""
    from nano_omni import plans
    from nano_omni.world.prompts import PromptError, parse

    if not prompt.segments or not isinstance(prompt.segments[0], TextSegment):
        raise InputError("the nano model needs photos of a room, or a prompt that says what to draw")
    try:
        asked = plans.prompt(parse(prompt.segments[0].text))
    except PromptError as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        raise InputError(f"{error}; choose another backend for larger pictures") from None
    return Wanted(asked, [_context(segment, tokenizer) for segment in prompt.segments[1:]])


def _context(segment: Any, tokenizer: Any) -> tuple[bool, list[int]]:
    from nano_omni import plans
    from nano_omni.tokenizer import QuestionError, encode_words
    from nano_omni.vocabulary import INDEX

    if isinstance(segment, TokenSegment) and segment.space == CODEBOOK:
        import torch

        ids = torch.as_tensor(to_numpy(segment.tokens)).long()
        if len(ids) != plans.CELLS:
            raise InputError(f"{len(ids)} visual tokens: the nano model draws from {plans.CELLS}")
        return True, plans.roll_out(ids[None])[0].tolist()
    kind, said = context_of(segment)
    if kind not in ("think", "think_long"):
        what = segment.text if isinstance(segment, TextSegment) else segment.words
        raise InputError(
            f"the nano model does not draw from this context: {what[:80]!r}; it reads thoughts and plans in"
            " its own words, and visual tokens of its own"
        )
    tag, grammar = ("think", plans.THINK_GRAMMAR) if kind == "think" else ("plan", plans.PLAN_GRAMMAR)
    try:
        words = encode_words(tokenizer, said)
    except QuestionError as error:
        raise InputError(str(error)) from None
    words += [plans.NONE] * (len(grammar.words) - len(words))
    if len(words) > len(grammar.words) or any(
        word not in may for word, may in zip(words, grammar.words, strict=True)
    ):
        raise InputError(
            f"this is no {tag} of the nano model: {said[:80]!r}; it says for each object its name, direction"
            " and distance" + (", then column and row of the picture" if tag == "plan" else "")
        )
    return False, [INDEX[f"<{tag}>"], *words, INDEX[f"</{tag}>"]]


class Pictures:
    """A `nano_omni.reader.Reader` of weights that draw, a tokenizer, and how pictures are sampled."""

    def __init__(self, reader: Any, words: Any, sampling: Any) -> None:
        self.reader, self.words, self.sampling = reader, words, sampling

    def think(
        self, asked: Sequence[Wanted], kind: str, most: int, temperature: float, seeds: Sequence[int]
    ) -> list[Generation | Exception]:
        """Thinking, or a plan ("think_long"): always as many words, so that most cannot be fewer."""
        from nano_omni import plans
        from nano_omni.captions import plain
        from nano_omni.tokenizer import decode
        from nano_omni.vocabulary import INDEX

        tag, grammar = ("think", plans.THINK_GRAMMAR) if kind == "think" else ("plan", plans.PLAN_GRAMMAR)
        if most <= len(grammar.words):
            why = f"a {tag} of a picture has {len(grammar.words) + 1} tokens, not {most}: raise max_tokens"
            return [InputError(why)] * len(asked)
        written = self.reader.write(
            self._read(asked), [INDEX[f"<{tag}>"]], f"</{tag}>", most, temperature, seeds, grammar
        )
        return [
            Generation(decode(self.words, plain(one.words[:-1])), len(one.words), one.log_probability)
            for one in written
        ]

    def roll_out(
        self, asked: Sequence[Wanted], count: int, temperature: float, seeds: Sequence[int]
    ) -> list[VisualTokens | Exception]:
        """The picture in 4 x 4 visual tokens."""
        import numpy as np

        from nano_omni import plans
        from nano_omni.visual import GRID
        from nano_omni.vocabulary import CODE_0, CODES

        if count < plans.CELLS:
            why = (
                f"the nano model rolls out {plans.CELLS} visual tokens of a picture, not {count}: raise count"
            )
            return [InputError(why)] * len(asked)
        written = self.reader.write(
            *(self._read(asked), plans.OPENING, "</view>", 0, temperature, seeds, plans.ROLL_OUT_GRAMMAR)
        )
        ids = [np.array(one.words[:-1]) - CODE_0 for one in written]
        return [VisualTokens(one, CODEBOOK, CODES, (GRID, GRID)) for one in ids]

    def draw(self, asked: Sequence[Wanted], seeds: Sequence[int]) -> list[Image]:
        """Pictures of 64 x 64 pixels. Where visual tokens guide, those that have some are drawn together, and
        those that have none."""
        from nano_omni import plans
        from nano_omni.drawing import draw, seen

        drawn: list[Any] = [None] * len(asked)
        led = self.sampling.guidance.image != 1
        by_tokens = [led and any(rolled for rolled, _ in one.contexts) for one in asked]
        for rolled in dict.fromkeys(by_tokens):
            of = [i for i, own in enumerate(by_tokens) if own == rolled]
            some = [asked[i] for i in of]
            nothing = [Wanted(list(plans.EMPTY))] * len(some)
            unseen = [replace(one, contexts=_words_only(one)) for one in some] if rolled else None
            guidance = self.sampling.guidance
            if not rolled:  # there is no picture to be led by
                guidance = replace(guidance, image=1.0)
            pictures = draw(
                self.reader.model,
                [seen(node) for node in self._read(some)],
                [seen(node) for node in self._read(nothing)],
                [seen(node) for node in self._read(unseen)] if unseen else None,
                [seeds[i] for i in of],
                replace(self.sampling, guidance=guidance),
            )
            pixels = pictures.permute(0, 2, 3, 1).contiguous()  # (N, 64, 64, 3)
            for i, one in zip(of, pixels, strict=True):
                drawn[i] = Image(to_numpy(one))
        return drawn

    def _read(self, asked: Sequence[Wanted]) -> list[Any]:
        """The nodes at which they end."""
        nodes = self.reader.begin([one.prompt for one in asked])
        for k in range(max((len(one.contexts) for one in asked), default=0)):
            longer = [i for i, one in enumerate(asked) if k < len(one.contexts)]
            more = self.reader.read([nodes[i] for i in longer], [asked[i].contexts[k][1] for i in longer])
            for i, node in zip(longer, more, strict=True):
                nodes[i] = node
        return nodes


def _words_only(one: Wanted) -> list[tuple[bool, list[int]]]:
    return [context for context in one.contexts if not context[0]]
