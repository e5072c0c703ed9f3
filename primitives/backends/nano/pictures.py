"""Pictures that the embedded model draws: what it is asked for, thinks, rolls out and draws of it.

A prompt is one of the grammar of `nano_omni.world.prompts`, up to what the model was taught (four objects of
three kinds). Contexts are its own: thinking, a plan, visual tokens of the picture. What is drawn from a photo
(see `photos`) is read, thought about and rolled out in the same way, after the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from primitives.backends.nano import weights as files
from primitives.backends.nano.prompts import CODEBOOK, context_of
from unroller import progress
from unroller.arrays import to_numpy
from unroller.capabilities import Generation, Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, TextSegment, TokenSegment
from unroller.values import Image, VisualTokens


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn, in words: the prompt's, and of each context whether it is a roll-out, and its
    words; task: of `nano_omni.config.TASKS`; nothing: the words of a prompt that says nothing (none:
    there are no words to be led by). Where it is drawn from photos, they (V, 3, 64, 64) uint8, and the
    latents (TOKENS, NUMBERS) of the first, as tensors."""

    prompt: list[int]
    contexts: list[tuple[bool, list[int]]] = field(default_factory=list)
    task: str = "generation"
    nothing: Sequence[int] = ()
    photos: Any = None
    latents: Any = None


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
    contexts = [context_words(segment, tokenizer) for segment in prompt.segments[1:]]
    return Wanted(asked, contexts, nothing=plans.EMPTY)


def context_words(segment: Any, tokenizer: Any) -> tuple[bool, list[int]]:
    """Of a context whether it is a roll-out, and its words. Raises InputError for others than the model's."""
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
    """A `nano_omni.reader.Reader` of weights that draw, a tokenizer, how pictures of a task are sampled (a
    `nano_omni.drawing.Sampling`), and what photos the weights know, if that was measured (a
    `nano_omni.familiarity.Familiarity`)."""

    def __init__(self, reader: Any, words: Any, sampling: Callable[[str], Any], familiar: Any = None) -> None:
        self.reader, self.words, self.sampling, self.familiar = reader, words, sampling, familiar

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
            self.read(asked), [INDEX[f"<{tag}>"]], f"</{tag}>", most, temperature, seeds, grammar
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
            *(self.read(asked), plans.OPENING, "</view>", 0, temperature, seeds, plans.ROLL_OUT_GRAMMAR)
        )
        ids = [np.array(one.words[:-1]) - CODE_0 for one in written]
        return [VisualTokens(one, CODEBOOK, CODES, (GRID, GRID)) for one in ids]

    def draw(self, asked: Sequence[Wanted], seeds: Sequence[int]) -> list[Image]:
        """Pictures of 64 x 64 pixels."""
        from nano_omni.drawing import pixels

        held = files.autoencoder()
        return [as_image(pixels(held, one[None])[0]) for one in self.latents(asked, seeds)]

    def latents(self, asked: Sequence[Wanted], seeds: Sequence[int]) -> list[Any]:
        """Of each picture its latents (TOKENS, NUMBERS). What is sampled alike is drawn together."""
        from nano_omni.drawing import drawn_latents, seen

        drawn: list[Any] = [None] * len(asked)
        kinds = [(one.task, self._sampled(one)) for one in asked]
        for kind in dict.fromkeys(kinds):
            of, sampling = [i for i, own in enumerate(kinds) if own == kind], kind[1]
            some, guidance = [asked[i] for i in of], sampling.guidance
            nothing = [replace(one, prompt=list(one.nothing), contexts=[]) for one in some]
            unseen = [replace(one, contexts=_words_only(one)) for one in some]
            latents = drawn_latents(
                self.reader.model,
                [seen(node) for node in self.read(some)],
                [seen(node) for node in self.read(nothing)] if guidance.text != 1 else None,
                [seen(node) for node in self.read(unseen)] if guidance.image != 1 else None,
                [seeds[i] for i in of],
                sampling,
                lambda step, latents: progress.tell(step, sampling.steps),  # noqa: B023 - called before the next
                _source(some),
            )
            for i, one in zip(of, latents, strict=True):
                drawn[i] = one
        return drawn

    def _sampled(self, one: Wanted) -> Any:
        """How one is sampled: led away from what it has only."""
        sampling = self.sampling(one.task)
        guidance = sampling.guidance
        if not any(rolled for rolled, _ in one.contexts):
            guidance = replace(guidance, image=1.0)
        if not one.nothing:
            guidance = replace(guidance, text=1.0, image=1.0)
        if one.task == "editing":  # a velocity that is shortened as a whole would move what is not to change
            guidance = replace(guidance, least=1.0)
        return replace(sampling, guidance=guidance)

    def looks(self, asked: Sequence[Wanted]) -> list[Any]:
        """What the model sees of the photos: a `nano_omni.reader.Look` each."""
        return [node.look for node in self.reader.look([one.photos for one in asked])]

    def read(self, asked: Sequence[Wanted]) -> list[Any]:
        """The nodes at which they end."""
        nodes: list[Any] = [None] * len(asked)
        bare = [i for i, one in enumerate(asked) if one.photos is None]
        for i, node in zip(bare, self.reader.begin([asked[i].prompt for i in bare]), strict=True):
            nodes[i] = node
        of = [i for i, one in enumerate(asked) if one.photos is not None]
        if of:
            some = self.reader.look([asked[i].photos for i in of])
            some = self.reader.read_latents(some, [asked[i].latents for i in of])
            for i, node in zip(of, self.reader.read(some, [asked[i].prompt for i in of]), strict=True):
                nodes[i] = node
        for k in range(max((len(one.contexts) for one in asked), default=0)):
            longer = [i for i, one in enumerate(asked) if k < len(one.contexts)]
            more = self.reader.read([nodes[i] for i in longer], [asked[i].contexts[k][1] for i in longer])
            for i, node in zip(longer, more, strict=True):
                nodes[i] = node
        return nodes


def as_image(pixels: Any) -> Image:
    """Of a tensor (3, H, W) uint8."""
    return Image(to_numpy(pixels.permute(1, 2, 0).contiguous()))


def _source(some: Sequence[Wanted]) -> Any:
    """The photos that all of a task are drawn from, if they are: a `nano_omni.drawing.Source`."""
    import torch

    from nano_omni.drawing import Source

    if some[0].photos is None:
        return None
    return Source(torch.stack([one.latents for one in some]), some[0].task == "editing")


def _words_only(one: Wanted) -> list[tuple[bool, list[int]]]:
    return [context for context in one.contexts if not context[0]]
