"""The embedded model as a backend: it thinks, tells, estimates poses, imagines views and answers.

It knows rooms like those of `nano_omni.world`, in pairs of square photos, and questions in the forms of
`nano_omni.tokenizer`. What it does not know it refuses, in words: photos unlike its rooms (a measured test,
see `nano_omni.familiarity`), objects it does not see, words it does not have.

What needs no question it writes from the photos alone, one from the other: the pose, from it the caption,
from that the views. `nano_omni.reader` remembers all of it, so nothing is written or read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from primitives.backends.checkpoints import imported, torch_device
from primitives.backends.nano import settings
from primitives.backends.nano import weights as files
from primitives.backends.nano.draws import DRAWS, GUIDANCE, IMAGE_GUIDANCE, STEPS, Draws, teach
from primitives.backends.nano.prompts import (
    AFTER_CAPTION,
    CODEBOOK,
    Asked,
    answers_of,
    asked_of,
    photos_of,
    seen_of,
)
from primitives.backends.nano.refusals import unknown
from unroller.arrays import Array, to_numpy
from unroller.capabilities import (
    AnswerScorer,
    FeatureExtractor,
    Generation,
    Outcomes,
    PhotoPair,
    PoseEstimator,
    Prompt,
    TextGenerator,
    ViewRequest,
    ViewSynthesizer,
    VisualTokenizer,
)
from unroller.cost import Reading
from unroller.faults import InputError
from unroller.values import CameraPose, Image, Latents, NovelViews, VisualTokens

T = TypeVar("T")
KINDS = ("think", "think_long", "caption", "depth_caption")
"""The kinds of text it writes."""


def _provided(weights: str | Path | None) -> tuple[type[Any], ...]:
    """Weights draw what they were taught to."""
    of_all = AnswerScorer, FeatureExtractor, PoseEstimator, TextGenerator, ViewSynthesizer, VisualTokenizer
    drawn = files.drawing(weights)
    return (*of_all, *(one for one, tasks in DRAWS.items() if drawn.keys() >= set(tasks)))


class Nano(Draws):
    """Every capability that one set of weights has: see `provides`.

    weights: a folder as `nano_omni.training.run` writes it (None: those that come along); device: where
    torch puts it; max_bytes: of what it has read and keeps, see `nano_omni.reader`; refuse=False: photos and
    objects that it does not know are answered all the same (for controls with blank pictures). steps,
    guidance, image_guidance: of sampling; guidance None: of each task what did best for it, see GUIDANCE.
    Raises PluginError for settings that are none, MissingCapability for a folder that is not there, lacks
    files or has a configuration that is none, and for a device that this machine lacks; at the first call, if
    the weights are damaged or of another version, or if it is to answer and they have no measure of the
    photos they know (see `nano_omni.familiarity`).
    """

    name = "nano"
    max_batch = 256
    unified = True
    provides: tuple[type[Any], ...] = _provided(None)
    shows_tokens = True

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str = "cpu",
        max_bytes: int = 512 << 20,
        refuse: bool = True,
        steps: int = STEPS,
        guidance: float | None = None,
        image_guidance: float = IMAGE_GUIDANCE,
    ) -> None:
        settings.check(steps, guidance, image_guidance, max_bytes, refuse, weights)
        if str(device) != "cpu":  # which every machine has: nothing heavy is imported to know it
            torch_device(str(device))
        self._folder = None if weights is None else Path(weights).expanduser()
        if self._folder is not None:
            files.check(self._folder)
        self.provides = _provided(self._folder)
        untaught = {
            one: tuple(task for task in tasks if task not in self.drawing) for one, tasks in DRAWS.items()
        }
        self.lacks = {one: teach(*tasks) for one, tasks in untaught.items() if tasks}
        self.sampling = steps, None if guidance is None else float(guidance), float(image_guidance)
        self._drawers = {}
        self.device = str(device)
        self.max_bytes = max_bytes
        self.refuse = refuse

    @cached_property
    def folder(self) -> Path:
        return self._folder or files.shipped()

    @cached_property
    def drawing(self) -> dict[str, Path]:
        """Of each task that can be drawn, the folder of the weights that draw it."""
        return files.drawing(self._folder)

    @cached_property
    def fingerprint(self) -> str:
        own = files.fingerprint(self.folder) + ("" if self.refuse else "-refuses-nothing")
        if not self.drawing:
            return own
        folders = dict.fromkeys(self.drawing.values())
        others = "".join(f"-{files.fingerprint(one)}" for one in folders if one != self.folder)
        steps, guidance, image = self.sampling
        scales = GUIDANCE.values() if guidance is None else (guidance,)
        how = "-".join(f"{one:g}" for one in (steps, *scales, image))
        return f"{own}{others}-{how}"

    @cached_property
    def _loaded(self) -> files.Loaded:
        known = self.refuse or files.knows_photos(self.folder)
        return files.load(self.folder, self.device, self.max_bytes, known)

    @property
    def reader(self) -> Any:
        """What reads and remembers: a `nano_omni.reader.Reader`."""
        return self._loaded.reader

    @property
    def reading(self) -> Reading:
        """Tokens read, found again and written so far."""
        held = [self._loaded.reader] if "_loaded" in self.__dict__ else []
        held += [one.reader for one in self._drawers.values() if one.reader not in held]
        counts = [(one.prefilled, one.reused, one.written) for one in held]
        return Reading(*(sum(some) for some in zip(*counts, strict=True))) if counts else Reading()

    @property
    def space(self) -> str:
        """The name of its hidden states: other weights do not read them."""
        return f"nano-{self.fingerprint[-16:]}"

    # ------------------------------------------------------------------------------------------- in words

    def generate_text(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[Generation]:
        """Thinking and captions (KINDS), in the model's own words. Captions are always the most probable
        ones, and are cut where they have more than max_tokens words. Without photos it thinks about the
        picture that is asked for, and with one about that picture, changed as words say."""
        outcomes: list[Any] = [None] * len(prompts)
        kinds = [(prompt.writes, self._of_a_picture(prompt)) for prompt in prompts]
        for kind, drawing in dict.fromkeys(kinds):
            some = [i for i, own in enumerate(kinds) if own == (kind, drawing)]
            write = self._plans if drawing and kind in ("think", "think_long") else self._texts
            written = write(
                kind, [prompts[i] for i in some], max_tokens, temperature, [seeds[i] for i in some]
            )
            for i, outcome in zip(some, written, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _texts(
        self, kind: str, prompts: list[Prompt], most: int, temperature: float, seeds: list[int]
    ) -> Sequence[Generation | Exception]:
        if kind not in KINDS:
            known, wanted = ", ".join(KINDS), kind or "text of no kind"
            return [InputError(f"the nano model writes {known} and was asked for {wanted}")] * len(prompts)

        def captions(asked: list[Asked], photos: list[Any], of: list[int]) -> list[Generation]:
            told = self._captions(photos) if kind == "caption" else self._depth_captions(photos)
            return [self._generation(one.words[:-1], most) for one in told]

        def thoughts(asked: list[Asked], photos: list[Any], of: list[int]) -> list[Generation]:
            from nano_omni.language import LONGEST_THOUGHT

            nodes = self._read(asked, photos)
            told: list[Any] = []
            if kind == "think_long":
                told = self._captions(photos)
                nodes = self.reader.read(nodes, [self._segment("caption", one.words) for one in told])
            # After contexts that it was never taught to think after it may not come to an end.
            longest = min(most, LONGEST_THOUGHT)
            written = self.reader.write(
                nodes, self._ids("<think>"), "</think>", longest, temperature, [seeds[i] for i in of]
            )
            if not told:
                return [self._generation(one.words[:-1], most, one.log_probability) for one in written]
            return [
                Generation(
                    f"{self._said(a.words[:-1])} {AFTER_CAPTION} {self._said(b.words[:-1])}",
                    len(a.words) + len(b.words),
                    a.log_probability + b.log_probability,
                )
                for a, b in zip(told, written, strict=True)
            ]

        if kind in ("caption", "depth_caption"):
            return self._where_possible(prompts, self._seen, captions)
        return self._where_possible(prompts, self._asked, thoughts)

    def _generation(self, words: Sequence[int], most: int, p: float | None = None) -> Generation:
        return Generation(self._said(words[:most]), min(len(words) + 1, most), p)

    def _said(self, words: Sequence[int]) -> str:
        from nano_omni.captions import plain
        from nano_omni.tokenizer import decode

        return decode(self._loaded.words, plain(words))

    def _ids(self, *words: str) -> list[int]:
        from nano_omni.vocabulary import INDEX

        return [INDEX[word] for word in words]

    def _segment(self, tag: str, words: Sequence[int]) -> list[int]:
        """Words as they are read; the last is the closing tag."""
        return [*self._ids(f"<{tag}>"), *words]

    # ------------------------------------------------------------------------------------------- answering

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> Outcomes[Sequence[float]]:
        """Choices must be among the answers the question can have: see `nano_omni.language.answers`."""
        torch = imported("torch", "torch")

        def read(i: int) -> Asked:
            asked = self._asked(prompts[i])
            answers_of(choices[i], asked)  # raises for what is none
            return asked

        def score(asked: list[Asked], photos: list[Any], of: list[int]) -> list[list[float]]:
            may = [answers_of(choices[i], one) for i, one in zip(of, asked, strict=True)]
            said = self.reader.answer(self._read(asked, photos), may)
            return [torch.exp(p.double()).tolist() for p in said]

        return self._where_possible(range(len(prompts)), read, score)

    # --------------------------------------------------------------------------------- poses and pictures

    def estimate_pose(self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]) -> Outcomes[CameraPose]:
        """In metres, in steps of 0.25 m and 7.5 degrees: the model's own resolution."""
        from nano_omni.language import WORKINGS, pose_matrix

        def estimate(asked: list[Asked], photos: list[Any], of: list[int]) -> list[CameraPose]:
            matrices = [pose_matrix(one.words[WORKINGS:-1]) for one in self._poses(photos)]
            return [CameraPose.from_matrix(matrix.numpy()) for matrix in matrices]

        return self._where_possible(pairs, lambda pair: self._pictures([pair.first, pair.second]), estimate)

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> Outcomes[NovelViews]:
        """Pictures of 64 x 64 pixels. Of directions, up to 90 degrees away, in steps of 7.5 (75 to the sides
        and 30 up and down unless said otherwise), visual tokens of what both photos tell; from a pose, drawn
        from one photo, where weights were taught so."""
        from nano_omni import views

        posed = [i for i, request in enumerate(requests) if request.pose is not None]
        if posed and "novel_view" in self.drawing:
            outcomes: list[Any] = [None] * len(requests)
            rest = [i for i in range(len(requests)) if i not in set(posed)]
            drawn = self._from_poses([requests[i] for i in posed], [seeds[i] for i in posed])
            turned = self.synthesize_views([requests[i] for i in rest], seeds=[seeds[i] for i in rest])
            for i, outcome in zip((*posed, *rest), (*drawn, *turned), strict=True):
                outcomes[i] = outcome
            return outcomes

        def read(request: ViewRequest) -> Asked:
            if request.pose is not None:
                raise InputError(
                    "the nano model imagines views from where a photo was taken, not from elsewhere: ask for"
                    f" directions ({', '.join(views.LOOKS)}), choose another backend, or take"
                    f" {teach('novel_view')}"
                )
            wrong = [look for look in request.directions if look not in views.LOOKS]
            if wrong or not request.directions:
                known = ", ".join(views.LOOKS)
                raise InputError(
                    f"no direction is called {', '.join(wrong) or '(none)'}: choose among {known}"
                )
            return self._pictures(request.photos or (request.photo,))

        def draw(asked: list[Asked], photos: list[Any], of: list[int]) -> list[NovelViews]:
            some = [requests[i] for i in of]
            wanted = [[_turn(look, one.degrees) for look in one.directions] for one in some]
            drawn = self._views(photos, [one.index for one in some], wanted)
            return [_novel_views(*one) for one in zip(some, wanted, drawn, strict=True)]

        return self._where_possible(requests, read, draw)

    def roll_out_tokens(
        self, prompts: Sequence[Prompt], *, count: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[VisualTokens]:
        """What lies to the left and to the right of photo 1: two pictures of 4 x 4 tokens, one above the
        other, always the most probable ones. Of a picture that is asked for, in words, as a change of one, or
        as what is seen from a pose, 4 x 4 tokens."""
        of_pictures = [i for i, prompt in enumerate(prompts) if self._of_a_picture(prompt)]
        of_rooms = [i for i, prompt in enumerate(prompts) if not self._of_a_picture(prompt)]
        outcomes: list[Any] = [None] * len(prompts)
        if of_pictures:
            asked = [prompts[i] for i in of_pictures]
            rolled = self._sketches(asked, count, temperature, [seeds[i] for i in of_pictures])
            for i, outcome in zip(of_pictures, rolled, strict=True):
                outcomes[i] = outcome
        for i, outcome in zip(of_rooms, self._sides([prompts[i] for i in of_rooms], count), strict=True):
            outcomes[i] = outcome
        return outcomes

    def _sides(self, prompts: list[Prompt], count: int) -> list[Any]:
        from nano_omni import views
        from nano_omni.visual import GRID
        from nano_omni.vocabulary import CODES

        least = views.PATCHES * len(views.CONTEXT)

        def read(prompt: Prompt) -> Asked:
            if count < least:
                raise InputError(f"the nano model rolls out {least} visual tokens, not {count}: raise count")
            return self._seen(prompt)

        def draw(asked: list[Asked], photos: list[Any], of: list[int]) -> list[VisualTokens]:
            import numpy as np

            drawn = self._views(photos, [0] * len(photos), [list(views.CONTEXT)] * len(photos))
            grid = (GRID * len(views.CONTEXT), GRID)
            return [VisualTokens(np.array(one).reshape(-1), CODEBOOK, CODES, grid) for one in drawn]

        return self._where_possible(prompts, read, draw)

    def decode_tokens(self, tokens: Sequence[VisualTokens]) -> Outcomes[Image]:
        """Pictures of what was rolled out, one above the other."""
        return [_picture(one) for one in tokens]

    # ----------------------------------------------------------------------------------------- hidden states

    def hidden_states(self, prompts: Sequence[Prompt]) -> Outcomes[Latents]:
        """Four states (4, d) of the model after all it was given: it reads them back as context."""

        def think(asked: list[Asked], photos: list[Any], of: list[int]) -> list[Latents]:
            hidden = self.reader.hidden(self._read(asked, photos))
            return [Latents(one, self.space) for one in hidden]

        return self._where_possible(prompts, self._asked, think)

    def pooled_features(self, prompts: Sequence[Prompt]) -> Outcomes[Array]:
        """Mean patch features of the two photos, one after the other: (2 d,)."""
        return self._where_possible(
            prompts, self._seen, lambda asked, photos, of: [node.look.feature.flatten() for node in photos]
        )

    # ------------------------------------------------------------------------------- from the photos alone

    def _poses(self, photos: list[Any]) -> list[Any]:
        from nano_omni.language import POSING_GRAMMAR

        return self.reader.settled(photos, self._ids("<campose>"), "</campose>", POSING_GRAMMAR)

    def _captions(self, photos: list[Any]) -> list[Any]:
        from nano_omni.captions import CAPTION_GRAMMAR

        posed = [one.node for one in self._poses(photos)]
        return self.reader.settled(posed, self._ids("<caption>"), "</caption>", CAPTION_GRAMMAR)

    def _depth_captions(self, photos: list[Any]) -> list[Any]:
        from nano_omni.captions import DEPTH_GRAMMAR

        return self.reader.settled(photos, self._ids("<depth>"), "</depth>", DEPTH_GRAMMAR)

    def _views(
        self, photos: list[Any], index: list[int], wanted: list[list[tuple[str, float]]]
    ) -> list[list[list[int]]]:
        """Visual tokens (16,) of each view wanted of each pair, looking from photo number `index`."""
        from nano_omni import views
        from nano_omni.vocabulary import CODE_0

        told = [one.node for one in self._captions(photos)]
        drawn: list[list[list[int]]] = [[] for _ in photos]
        by_words: dict[tuple[int, ...], list[int]] = {}
        for i, turns in enumerate(wanted):
            for turn in turns:
                by_words.setdefault(tuple(views.opening(index[i], *turn)), []).append(i)
        found: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for opening, some in by_words.items():
            written = self.reader.settled([told[i] for i in some], opening, "</view>", views.GRAMMAR)
            for i, one in zip(some, written, strict=True):
                found[opening, i] = [word - CODE_0 for word in one.words[:-1]]
        for i, turns in enumerate(wanted):
            drawn[i] = [found[tuple(views.opening(index[i], *turn)), i] for turn in turns]
        return drawn

    # ---------------------------------------------------------------------------------------------- reading

    def _seen(self, prompt: Prompt) -> Asked:
        return seen_of(prompt, self.reader.model.config.photo)

    def _pictures(self, images: Sequence[Image]) -> Asked:
        return Asked(photos_of([image.pixels for image in images], self.reader.model.config.photo))

    def _asked(self, prompt: Prompt) -> Asked:
        return asked_of(prompt, self._loaded.words, self.reader.model.config.photo, self.space)

    def _where_possible(
        self,
        given: Sequence[T] | range,
        read: Callable[[Any], Asked],
        work: Callable[[list[Asked], list[Any], list[int]], Sequence[Any]],
    ) -> list[Any]:
        """`work` on all samples that `read` can read and the model knows, together: what is asked, the nodes
        of the photos, which samples they are. For the others, why not."""
        outcomes: list[Any] = [None] * len(given)
        asked: list[Asked] = []
        where: list[int] = []
        for i, one in enumerate(given):
            try:
                asked.append(read(one))
                where.append(i)
            except InputError as error:
                outcomes[i] = error
        photos = self.reader.look([one.photos for one in asked]) if asked else []
        known: list[int] = []
        for k, (one, node) in enumerate(zip(asked, photos, strict=True)):
            why = unknown(one, node.look, self._loaded.familiar) if self.refuse else None
            if why is None:
                known.append(k)
            else:
                outcomes[where[k]] = InputError(why)
        if known:
            of = [where[k] for k in known]
            results = work([asked[k] for k in known], [photos[k] for k in known], of)
            for i, outcome in zip(of, results, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _read(self, asked: list[Asked], photos: list[Any]) -> list[Any]:
        """The nodes at which prompts end."""
        reader = self.reader
        nodes = reader.read(photos, [one.question for one in asked])
        for k in range(max(len(one.contexts) for one in asked)):
            longer = [i for i, one in enumerate(asked) if k < len(one.contexts)]
            more = reader.read([nodes[i] for i in longer], [asked[i].contexts[k] for i in longer])
            for i, node in zip(longer, more, strict=True):
                nodes[i] = node
        return nodes


class UnwaryNano(Nano):
    """The same, answering whatever it is shown and asked: for controls with blank or foreign pictures."""

    name = "nano_unwary"

    def __init__(
        self, weights: str | Path | None = None, device: str = "cpu", max_bytes: int = 512 << 20
    ) -> None:
        super().__init__(weights, device, max_bytes, refuse=False)


def _turn(look: str, degrees: float | None) -> tuple[str, float]:
    from nano_omni.views import WIDE

    own = WIDE if look in ("left", "right") else 30.0
    return look, own if degrees is None else min(max(7.5, round(degrees / 7.5) * 7.5), 82.5)


def _novel_views(request: ViewRequest, turns: list[tuple[str, float]], tokens: list[list[int]]) -> NovelViews:
    import torch

    from nano_omni import views
    from nano_omni.visual import codebook

    pictures = codebook().draw(torch.tensor(tokens)).permute(0, 2, 3, 1).contiguous()
    poses = [CameraPose.from_matrix(views.turned(*one).numpy()) for one in turns]
    return NovelViews(
        to_numpy(pictures),
        request.directions,
        photo=request.index,
        poses=tuple((pose.translation, pose.rotation) for pose in poses),
    )


def _picture(tokens: VisualTokens) -> Image | Exception:
    import torch

    from nano_omni.visual import GRID, codebook

    ids = torch.as_tensor(to_numpy(tokens.ids)).long()
    if tokens.codebook != CODEBOOK or len(ids) % GRID**2 or not len(ids):
        return InputError(
            f"{len(ids)} tokens of the codebook {tokens.codebook!r}: the nano model draws those of"
            f" {CODEBOOK!r}, {GRID**2} a picture"
        )
    pictures = codebook().draw(ids.view(-1, GRID**2))  # (N, 3, S, S)
    return Image(to_numpy(pictures.permute(0, 2, 3, 1).flatten(0, 1).contiguous()))
