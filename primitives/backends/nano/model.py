"""The embedded model as a backend: it thinks, estimates poses and answers, with weights that come along.

It knows rooms like those of `nano_omni.world`, in pairs of square photos, and questions in the forms of
`nano_omni.tokenizer`. What it does not know it refuses, in words: photos unlike its rooms (a measured test,
see `nano_omni.familiarity`), objects it does not see, words it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from primitives.backends.nano.prompts import Asked, asked_of, photos_of
from unroller.capabilities import (
    AnswerScorer,
    Generation,
    Outcomes,
    PhotoPair,
    PoseEstimator,
    Prompt,
    TextGenerator,
)
from unroller.cost import Reading
from unroller.faults import InputError, MissingCapability
from unroller.values import CameraPose

T = TypeVar("T")
R = TypeVar("R")


class Nano:
    """`TextGenerator` (thinking), `PoseEstimator` and `AnswerScorer` by one set of weights.

    weights: a folder as `nano_omni.training.run` writes it (None: those that come along); device: where
    torch puts it; max_bytes: of what it has read and keeps, see `nano_omni.reader`. Raises MissingCapability
    at the first call if the weights are missing, damaged or of another version.
    """

    name = "nano"
    max_batch = 256
    unified = True
    provides: ClassVar[tuple[type[Any], ...]] = (AnswerScorer, PoseEstimator, TextGenerator)

    def __init__(
        self, weights: str | Path | None = None, device: str = "cpu", max_bytes: int = 512 << 20
    ) -> None:
        self._folder = weights
        self.device = device
        self.max_bytes = max_bytes

    @cached_property
    def folder(self) -> Path:
        if self._folder is not None:
            return Path(self._folder)
        import nano_omni

        return Path(nano_omni.__file__).with_name("weights") / "cpu"

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights' content: other weights give other values."""
        from xxhash import xxh3_64

        hasher = xxh3_64()
        for name in ("model.safetensors", "config.json", "tokenizer.json", "familiarity.safetensors"):
            file = self.folder / name
            hasher.update(file.read_bytes() if file.is_file() else b"none")
        return f"nano-1-{hasher.hexdigest()}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        """Reader, tokenizer and familiarity."""
        for name in ("model.safetensors", "config.json"):
            if not (self.folder / name).is_file():
                raise MissingCapability(
                    f"the nano model's weights are not there (no {name} in {self.folder}): train them with"
                    " `make weights`, or name a folder: Nano(weights=…)"
                )
        from nano_omni import familiarity, tokenizer
        from nano_omni.model import load
        from nano_omni.reader import Reader

        try:
            model = load(self.folder).to(self.device)
            words = tokenizer.load(self.folder)
            familiar = familiarity.load(self.folder)
        except Exception as error:  # truncated, of another shape, of another version
            why = f"{type(error).__name__}: {error}"
            raise MissingCapability(
                f"the nano model's weights in {self.folder} cannot be loaded ({why}): they are damaged or of"
                " another version; restore them, or train them with `make weights`"
            ) from None
        return Reader(model, self.max_bytes), words, familiar

    @property
    def reader(self) -> Any:
        """What reads and remembers: a `nano_omni.reader.Reader`."""
        return self._loaded[0]

    @property
    def reading(self) -> Reading:
        """Tokens read, found again and written so far."""
        if "_loaded" not in self.__dict__:
            return Reading()
        return Reading(self.reader.prefilled, self.reader.reused, self.reader.written)

    # ----------------------------------------------------------------------------------- capabilities

    def generate_text(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[Generation]:
        """Thinking, in the model's own words; a prompt that wants other text is refused."""
        _, words, _ = self._loaded
        from nano_omni.tokenizer import decode

        def read(prompt: Prompt) -> Asked:
            if prompt.writes != "think":
                wanted = prompt.writes or "text of no kind"
                raise InputError(f"the nano model writes thoughts and was asked for {wanted}")
            return self._asked(prompt)

        def write(asked: list[Asked], of: list[int]) -> list[Generation]:
            written = self.reader.write(
                self._read(asked),
                "<think>",
                "</think>",
                max_tokens,
                temperature,
                [seeds[i] for i in of],
            )
            return [
                Generation(decode(words, one.words[:-1]), len(one.words), one.log_probability)
                for one in written
            ]

        return _where_possible(prompts, read, write)

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> Outcomes[Sequence[float]]:
        """Choices must be among the answers the question can have: see world.questions.CHOICES."""
        import torch

        def read(i: int) -> tuple[Asked, list[int]]:
            asked = self._asked(prompts[i])
            return asked, _answers(choices[i], asked.hops)

        def score(asked: list[tuple[Asked, list[int]]], of: list[int]) -> list[list[float]]:
            nodes = self._read([one for one, _ in asked])
            said = self.reader.answer(nodes, [answers for _, answers in asked])
            return [torch.exp(p.double()).tolist() for p in said]

        return _where_possible(range(len(prompts)), read, score)

    def estimate_pose(
        self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]
    ) -> Outcomes[CameraPose]:
        """In metres, in steps of 0.25 m and 7.5 degrees: the model's own resolution."""
        from nano_omni.language import POSE_GRAMMAR, pose_matrix

        side = self.reader.model.config.photo

        def read(pair: PhotoPair) -> Any:
            photos = photos_of([pair.first.pixels, pair.second.pixels], side)
            self._refuse_strange([photos])
            return photos

        def estimate(photos: list[Any], of: list[int]) -> list[CameraPose]:
            nodes = self.reader.look(photos)
            written = self.reader.write(nodes, "<campose>", "</campose>", 0, grammar=POSE_GRAMMAR)
            return [CameraPose.from_matrix(pose_matrix(one.words[:-1]).numpy()) for one in written]

        return _where_possible(pairs, read, estimate)

    # ---------------------------------------------------------------------------------------- reading

    def _asked(self, prompt: Prompt) -> Asked:
        """Read one prompt; raises InputError for what the model does not know."""
        _, words, familiar = self._loaded
        asked = asked_of(prompt, words, self.reader.model.config.photo)
        (node,) = self._refuse_strange([asked.photos])
        self._refuse_unseen(asked, node.look.seen, familiar.seen)
        return asked

    def _refuse_strange(self, photos: list[Any]) -> list[Any]:
        reader, _, familiar = self._loaded
        nodes = reader.look(photos)
        for node in nodes:
            if familiar.is_strange(node.look):
                far = float(familiar.distance(node.look.feature).max())
                raise InputError(
                    "these photos are not like the rooms the nano model was trained on (distance"
                    f" {far:.0f}, familiar up to {familiar.strange:.0f}): choose a backend made for"
                    " photographs with --backend; `unroller primitives` lists what each provides"
                )
        return nodes

    def _refuse_unseen(self, asked: Asked, seen: Any, least: float) -> None:
        from nano_omni.vocabulary import OBJECT_0, OBJECTS

        named = [word - OBJECT_0 for word in asked.question if 0 <= word - OBJECT_0 < len(OBJECTS)]
        for k in named:
            if float(seen[k + 1]) < least:
                most = [int(i) for i in seen[1:].argsort(descending=True)[:6] if seen[i + 1] > 0.5]
                there = ", ".join(f"the {OBJECTS[i]}" for i in most) or "nothing it is sure of"
                raise InputError(
                    f"the nano model sees no {OBJECTS[k]} in these photos; it sees {there}: ask about those"
                )

    def _read(self, asked: list[Asked]) -> list[Any]:
        """The nodes at which prompts end."""
        reader = self.reader
        nodes = reader.read(reader.look([one.photos for one in asked]), [one.question for one in asked])
        for k in range(max(len(one.contexts) for one in asked)):
            longer = [i for i, one in enumerate(asked) if k < len(one.contexts)]
            more = reader.read([nodes[i] for i in longer], [asked[i].contexts[k] for i in longer])
            for i, node in zip(longer, more, strict=True):
                nodes[i] = node
        return nodes


def _where_possible(
    given: Sequence[T] | range, read: Callable[[Any], R], work: Callable[[list[R], list[int]], Sequence[Any]]
) -> list[Any]:
    """`work` on all samples that `read` can read, together; for the others what it raised."""
    outcomes: list[Any] = [None] * len(given)
    readable: list[R] = []
    where: list[int] = []
    for i, one in enumerate(given):
        try:
            readable.append(read(one))
            where.append(i)
        except InputError as error:
            outcomes[i] = error
    if readable:
        for i, outcome in zip(where, work(readable, where), strict=True):
            outcomes[i] = outcome
    return outcomes


def _answers(choices: tuple[str, ...], hops: int) -> list[int]:
    """The words of the choices. Raises InputError for one that the question cannot have."""
    from nano_omni.vocabulary import INDEX
    from nano_omni.world.questions import CHOICES

    plain = [choice.strip().lower().replace(" ", "-") for choice in choices]
    for choice, word in zip(choices, plain, strict=True):
        if word not in CHOICES[hops]:
            raise InputError(
                f"{choice!r} is no answer to this question: the choices are {', '.join(CHOICES[hops])}"
            )
    if len(set(plain)) < len(plain):
        raise InputError(f"two of the choices are the same: {', '.join(choices)}")
    return [INDEX[word] for word in plain]
