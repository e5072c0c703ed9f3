"""A training sequence: two photos, read once, and under them a tree of questions and contexts.

    photos - pose - caption - views
           - depth caption
           - A where it lies, for every object A
           - question - <answer>                              direct
                      - pose - <answer>                       pose
                             - think - <answer>               pose+think
                      - think - <answer>                      think
                              - pose - <answer>               think+pose

Each branch is what a model that unrolled so far would have read, and sees nothing of the others, so one pass
trains many subsets of contexts, and direct answers get as many losses as any. What is written without a
question stands under the photos alone, as the engine has it; under a question it is given, to be read. All
rooms of a batch share one layout: shapes never change, and a question that a scene does not have is left
out by its weight.

A step takes one of GROUPS, so that a sequence stays short: chains of hops, tallies (counting, comparing),
and questions of any form after views, hidden states, captions, with thinking behind them. The controls are
trees of their own (TREES), trained in the same way: *direct* writes all the same contexts, so it is
supervised as much, and never answers from them; *pause* also answers after as many words that say nothing;
*apart* answers from one context, and never from two: what it makes of two is what emerges.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import captions, language, views
from ..config import Config
from ..data import Rooms
from ..masks import Segment, attention_mask, photo_segments, positions
from ..model import Said
from ..vocabulary import CODE_0, INDEX, OBJECT_CODES, OBJECTS, TwoHot, neighbours
from ..world.questions import Form
from ..world.scene import MAX_OBJECTS

Node = tuple[str, str, str]  # name, parent, what it holds

_POSING = ("posing", "photos", "posing")
_CAPTION = ("caption", "posing", "caption")
_VIEWS = tuple((f"view{k}", "caption", f"view{k}") for k in range(len(views.CONTEXT) + 1))
_SEEN = {  # without a question
    "see": (_POSING, _CAPTION, *((f"object{k}", "photos", f"object{k}") for k in range(MAX_OBJECTS))),
    "chain": (_POSING,),
    "tally": (_POSING, _CAPTION, ("depth", "photos", "depth")),
    "views": (_POSING, _CAPTION, *_VIEWS),
    "latent": (_POSING, _CAPTION, *_VIEWS),
    "caption": (_POSING, _CAPTION, ("depth", "photos", "depth")),
    "told": (_POSING, _CAPTION),
}
_DIRECT = ("direct", "question", "answer")
_THINKING = (("P", "question", "pose"), ("T", "question", "think"), ("PT", "P", "think"))
_WRITTEN = {  # under a question, in every tree
    "see": (),
    "chain": _THINKING,
    "tally": _THINKING,
    "views": (("P", "question", "pose"), ("PV", "P", "viewed"), ("PVT", "PV", "think")),
    "latent": (("V", "question", "viewed"), ("VT", "V", "think")),
    "caption": (("C", "question", "captioned"), ("CT", "C", "think")),
    "told": (("P", "question", "pose"), ("PC", "P", "captioned"), ("PCT", "PC", "think")),
}
_ONE = {  # answers from one context
    "chain": (("pose", "P", "answer"), ("think", "T", "answer")),
    "tally": (("pose", "P", "answer"), ("think", "T", "answer")),
    "views": (("V", "question", "viewed"), ("views", "V", "answer")),
    "latent": (("L", "question", "latent"), ("H", "question", "hidden"), ("latent", "H", "answer")),
    "caption": (("caption", "C", "answer"),),
}
_BOTH = {  # answers from two or three
    "chain": (("pose+think", "PT", "answer"), ("TP", "T", "pose"), ("think+pose", "TP", "answer")),
    "tally": (("pose+think", "PT", "answer"),),
    "views": (("pose+views+think", "PVT", "answer"),),
    "latent": (("views+think", "VT", "answer"),),
    "caption": (("caption+think", "CT", "answer"),),
    "told": (("pose+caption+think", "PCT", "answer"),),
}
_PAUSE = (("W", "question", "pause"), ("pause", "W", "answer"))
_PAUSES = {"chain": _PAUSE, "tally": _PAUSE}
GROUPS = tuple(_SEEN)
TREES = ("full", "direct", "pause", "apart")
_ANSWER_WEIGHT = {"think+pose": 0.5}  # the less usual order; 1 for all others
# Most of what a view shows is wall: what counts are the objects. A pose is three words that much hangs on.
_ROOM_CODE, _NONE, _POSE = 0.3, 0.2, 2.0


def tree(group: str, name: str) -> tuple[Node, ...]:
    """What stands under a question, in the order of the sequence: parents first. Raises ValueError."""
    if name not in TREES:
        raise ValueError(f"a tree is one of {', '.join(TREES)}, not {name!r}")
    if group not in GROUPS:
        raise ValueError(f"a group is one of {', '.join(GROUPS)}, not {group!r}")
    nodes = (_DIRECT, *_WRITTEN[group])
    if name in ("full", "apart"):
        nodes += _ONE.get(group, ())
    if name == "full":
        nodes += _BOTH.get(group, ())
    return nodes + _PAUSES.get(group, ()) if name == "pause" else nodes


def length_of(what: str, form: Form | None) -> int:
    """How many words a node of this kind has; form: of its question."""
    kind = what.rstrip("0123456789")
    if kind in ("question", "think", "pause"):
        assert form is not None
        thought = language.think_length(form)
        asked = language.question_length(form)
        return {"question": asked, "think": thought, "pause": language.POSE_LENGTH + thought}[kind]
    return {
        "posing": language.POSING_LENGTH,
        "pose": language.POSE_LENGTH,
        "object": language.OBJECT_LENGTH,
        "caption": captions.CAPTION_LENGTH,
        "captioned": captions.CAPTION_LENGTH,
        "depth": captions.DEPTH_LENGTH,
        "view": views.LENGTH,
        "viewed": views.LENGTH * len(views.CONTEXT),
        "latent": language.LATENTS,
        "hidden": language.LATENTS,
        "answer": 1,
    }[kind]


class Targets(NamedTuple):
    """What is to be predicted at the n places read: words low and high (B, n), share of high, weight."""

    low: Tensor
    high: Tensor
    share: Tensor
    weight: Tensor


class Forest:
    """One of GROUPS and TREES laid out for some forms of questions: mask (L, L), positions (L,), read (n,).

    `cells` lists (form, branch) of the answers in order, `answer_rows` and `context_rows` tell answers from
    words of contexts among the places read; `written` (m,) are the text places that words of contexts are
    read for. `latent`, if there are latents: the places that are read for them, and those they are put at.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device | str = "cpu",
        forms: Sequence[Form] = (),
        group: str = "see",
        name: str = "full",
    ) -> None:
        under = tree(group, name)
        segments = photo_segments(config.grid**2)
        self.photo_length = at = sum(s.length for s in segments)
        self.nodes: list[tuple[Form | None, str]] = []  # of each text segment
        self.cells: list[tuple[Form, str]] = []
        read: list[int] = []
        answers: list[bool] = []
        begins: dict[tuple[Form | None, str], int] = {}
        index: dict[str, int] = {"photos": len(segments) - 1}

        def add(form: Form | None, node: Node) -> None:
            nonlocal at
            label, parent, what = node
            length = length_of(what, form)
            index[label] = len(segments)
            segments.append(Segment("text", length, index[parent]))
            self.nodes.append((form, what))
            begins[form, label] = at
            if what == "answer":
                assert form is not None
                self.cells.append((form, label))
                read.append(at)
                answers.append(True)
            elif what in ("posing", "caption", "depth", "think") or what[:-1] in ("object", "view"):
                first = len(views.opening(0, "up", 0)) if what[:-1] == "view" else 1  # not what is asked for
                read.extend(range(at + first - 1, at + length - 1))
                answers.extend([False] * (length - first))
            at += length

        for node in _SEEN[group]:
            add(None, node)
        for form in forms:
            for node in (("question", "photos", "question"), *under):
                add(form, node)
        self.padding = -at % 8  # attention kernels like multiples of 8
        if self.padding:
            segments.append(Segment("text", self.padding))
        self.segments = segments
        self.mask = attention_mask(segments).to(device)
        self.positions = positions(segments).to(device)
        self.read = torch.tensor(read, device=device)
        # Index tensors made once: making them in a step would make the host wait for the GPU.
        kinds = torch.tensor(answers, device=device)
        self.answer_rows, self.context_rows = kinds.nonzero()[:, 0], (~kinds).nonzero()[:, 0]
        self.written = self.read[self.context_rows] + 1 - self.photo_length
        self.weights = torch.tensor([_ANSWER_WEIGHT.get(cell, 1.0) for _, cell in self.cells], device=device)
        self.before, self.after = neighbours(device)
        self._copies = torch.tensor(self._copied(begins), device=device).view(-1, 2).T - self.photo_length
        self.latent = self._latent(begins, device)

    def _copied(self, begins: dict[tuple[Form | None, str], int]) -> list[tuple[int, int]]:
        """Places that hold what was written elsewhere in the sequence: (from, to)."""
        pairs: list[tuple[int, int]] = []
        for (form, label), to in begins.items():
            if form is None:
                continue
            if label in ("P", "TP"):  # the last words of a pose that was worked out
                start = begins[None, "posing"] + language.WORKINGS
                pairs += [(start + k, to + k) for k in range(1, language.POSE_LENGTH)]
            elif label in ("C", "PC"):
                pairs += [(begins[None, "caption"] + k, to + k) for k in range(captions.CAPTION_LENGTH)]
            elif label in ("V", "PV"):
                for k in range(len(views.CONTEXT)):
                    start, end = begins[None, f"view{k}"], to + k * views.LENGTH
                    pairs += [(start + j, end + j) for j in range(views.LENGTH)]
        return pairs

    def _latent(
        self, begins: dict[tuple[Form | None, str], int], device: torch.device | str
    ) -> tuple[Tensor, Tensor] | None:
        """Places of photos, question and latent words, and where the hidden states of the last go."""
        forms = [form for form, label in begins if label == "L" and form is not None]
        if not forms:
            return None
        (form,) = forms  # one question at a time: its prefix is run once more
        asked, thought, put = (begins[form, label] for label in ("question", "L", "H"))
        prefix = [*range(self.photo_length), *range(asked, asked + language.question_length(form))]
        prefix += range(thought, thought + language.LATENTS)
        return torch.tensor(prefix, device=device), torch.arange(put, put + language.LATENTS, device=device)

    def fill(self, rooms: Rooms, noise: float, generator: torch.Generator | None) -> tuple[Tensor, Targets]:
        """Words (B, T) and targets for a batch of rooms.

        Contexts hold the truth, rounded at random in proportion; a `noise` share of the numbers is moved
        by one step, half of them up. Every copy of a context draws its own.
        """
        words: list[Tensor] = []
        aims: list[tuple[Tensor, ...]] = []  # low, high, share, weight
        batch = len(rooms)
        every = torch.ones(batch, 1, device=rooms.photos.device)

        def written(truth: TwoHot, weight: Tensor) -> None:
            words.append(self._rounded(truth, noise, generator))
            aims.append((*(part[:, 1:] for part in truth), weight.expand_as(truth[2])[:, 1:]))

        for form, what in self.nodes:
            if form is None:
                if what == "posing":
                    heavy = torch.ones_like(rooms.posing[2])
                    heavy[:, -1 - len(language.POSE_GRAMMAR) : -1] = _POSE
                    written(rooms.posing, heavy)
                elif what == "caption":
                    written(rooms.caption, 1 - (1 - _NONE) * (rooms.caption[0] == captions.NONE).float())
                elif what == "depth":
                    written(rooms.depth_caption, every)
                elif what[:-1] == "object":
                    k = int(what[-1])
                    low, high, share = (part[:, k] for part in rooms.objects)
                    written((low, high, share), rooms.known[:, k : k + 1].float())
                else:
                    self._viewed(rooms.views[:, int(what[-1])], words, aims)
                continue
            asked = rooms.asked[form]
            valid = asked.valid.float()[:, None]
            if what == "question":
                words.append(asked.question)
            elif what == "answer":
                words.append(torch.full_like(asked.choice, INDEX["<answer>"])[:, None])
                right = asked.answer[:, None]
                aims.append((right, right, torch.zeros_like(valid), valid))
            elif what == "think":
                written(asked.think, valid)
            elif what == "pose":
                words.append(self._rounded(rooms.pose, noise, generator))
            elif what == "captioned":
                words.append(self._rounded(rooms.caption, noise, generator))
            elif what == "viewed":
                words.append(rooms.views[:, : len(views.CONTEXT)].flatten(1))
            else:
                said = INDEX["<pause>" if what == "pause" else "<latent>"]
                words.append(asked.question.new_full((batch, length_of(what, form)), said))
        if self.padding:
            words.append(torch.zeros(batch, self.padding, dtype=torch.long, device=words[0].device))
        low, high, share, weight = (torch.cat(parts, 1) for parts in zip(*aims, strict=True))
        return torch.cat(words, 1), Targets(low, high, share, weight)

    def _viewed(self, view: Tensor, words: list[Tensor], aims: list[tuple[Tensor, ...]]) -> None:
        words.append(view)
        codes = view[:, len(views.opening(0, "up", 0)) :]
        room = (codes >= CODE_0 + OBJECT_CODES * len(OBJECTS)).float()
        aims.append((codes, codes, torch.zeros_like(room), 1 - (1 - _ROOM_CODE) * room))

    def _rounded(self, number: TwoHot, noise: float, generator: torch.Generator | None) -> Tensor:
        low, high, share = number
        lots = torch.rand(2, *share.shape, device=share.device, generator=generator)
        word = torch.where(lots[0] < share, high, low)
        word = torch.where(lots[1] < noise / 2, self.before[word], word)
        return torch.where(lots[1] > 1 - noise / 2, self.after[word], word)

    def rewrite(self, words: Tensor, logits: Tensor, who: Tensor) -> Tensor:
        """Words with the contexts of rooms `who` (B,) bool replaced by the model's own best words, wherever
        they are written and wherever they are given.

        logits (B, n, vocabulary) were read with `words`. Repeated k times (Jacobi decoding), the first k
        words of every context are what greedy decoding writes, and in practice most of the rest.
        """
        best = logits[:, self.context_rows].argmax(-1)  # (B, m)
        best = torch.where(who[:, None], best, words[:, self.written])
        words = words.index_copy(1, self.written, best)
        source, target = self._copies
        return words.index_copy(1, target, torch.where(who[:, None], words[:, source], words[:, target]))


def losses(
    said: Said,
    targets: Targets,
    names: Tensor,
    measures: Tensor,
    answer_rows: Tensor,
    context_rows: Tensor,
    answer_weights: Tensor,
) -> Tensor:
    """Means of (answer, context, name, measure, spoken) losses: (5,). Words are two-hot: see `vocabulary`;
    names (B, V, P, CLASSES) and measures (B, V, P, 3) are the truth of patches."""
    logs = said.logits.float().log_softmax(-1)
    lower = logs.gather(-1, targets.low[..., None])[..., 0]
    upper = logs.gather(-1, targets.high[..., None])[..., 0]
    cost = -torch.lerp(lower, upper, targets.share)  # (B, n)
    answer = targets.weight[:, answer_rows] * answer_weights
    context = targets.weight[:, context_rows]
    depth, walls = said.measures[..., 0].float(), said.measures[..., 1:].float()
    return torch.stack(
        [
            (cost[:, answer_rows] * answer).sum() / answer.sum().clamp(min=1.0),
            (cost[:, context_rows] * context).sum() / context.sum().clamp(min=1.0),
            -(names.float() * said.names.float().log_softmax(-1)).sum(-1).mean(),
            F.smooth_l1_loss(depth, measures[..., 0], beta=0.1) + F.mse_loss(walls, measures[..., 1:]),
            -(names.float() * said.spoken.float().log_softmax(-1)).sum(-1).mean(),
        ]
    )
