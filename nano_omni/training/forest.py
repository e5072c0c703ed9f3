"""A training sequence: two photos, read once, and under them a tree of questions and contexts.

    photos - pose
           - A where it lies, for every object A
           - question - <answer>                              direct
                      - pose - <answer>                       pose
                             - think - <answer>               pose+think
                      - think - <answer>                      think
                              - pose - <answer>               think+pose

for every number of hops. Each branch is what a model that unrolled so far would have read, and sees
nothing of the others, so one pass trains every subset of contexts in either order, and direct answers
get as many losses as any. All rooms of a batch share one layout: shapes never change, and a question
that a scene does not have is left out by its weight.

The controls are trees of their own (`TREES`), trained in the same way: *direct* writes the same poses and
thoughts, so it is supervised as much, and never answers from them; *pause* also answers after as many
words that say nothing; *apart* answers from a pose or from thinking, and never from both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import language
from ..config import Config
from ..data import Rooms
from ..masks import Segment, attention_mask, photo_segments, positions
from ..vocabulary import INDEX, TwoHot, neighbours
from ..world.questions import HOPS
from ..world.scene import MAX_OBJECTS

Node = tuple[str, str, str]  # name, parent, what it holds

_DIRECT = ("direct", "question", "answer")
_CONTEXTS = (
    ("P", "question", "pose"),
    ("T", "question", "think"),
    ("PT", "P", "think"),
    ("TP", "T", "pose"),
)
_ANSWERS = (("pose", "P", "answer"), ("think", "T", "answer"))
_BOTH = (("pose+think", "PT", "answer"), ("think+pose", "TP", "answer"))
_PAUSES = (("W", "question", "pause"), ("pause", "W", "answer"))

TREES: dict[str, tuple[Node, ...]] = {  # in the order of the sequence: parents first
    "full": (_DIRECT, *_CONTEXTS, *_ANSWERS, *_BOTH),
    "direct": (_DIRECT, *_CONTEXTS),
    "pause": (_DIRECT, *_CONTEXTS, *_PAUSES),
    "apart": (_DIRECT, *_CONTEXTS, *_ANSWERS),
}
_ANSWER_WEIGHT = {"think+pose": 0.5}  # the less usual order; 1 for all others


@dataclass(frozen=True)
class Targets:
    """What is to be predicted at the n places read: words low and high (B, n), share of high, weight."""

    low: Tensor
    high: Tensor
    share: Tensor
    weight: Tensor


class Forest:
    """One of TREES laid out for some numbers of hops: mask (L, L), positions (L,), read (n,) on a device.

    `answers` (n,) bool tells answers from words of contexts among the places read; `cells` lists (hops,
    branch) of the answers in order; `written` (m,) are the text places that words of contexts are read for.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device | str = "cpu",
        hops: Sequence[int] = HOPS,
        tree: str = "full",
    ) -> None:
        if tree not in TREES:
            raise ValueError(f"a tree is one of {', '.join(TREES)}, not {tree!r}")
        self.hops = tuple(hops)
        patches = config.grid**2
        segments = photo_segments(patches)
        self.photo_length = sum(s.length for s in segments)
        root = len(segments) - 1
        self.nodes: list[tuple[int, str]] = []  # (hops, what) of each text segment
        read, kinds, self.cells = [], [], []
        at = self.photo_length
        # Before any question, with 0 hops: what the photos alone say. Looking objects up by their names is
        # what all thinking starts with, and is not learned from the few that questions name.
        alone = [("pose", language.POSE_LENGTH)] + [("object", language.OBJECT_LENGTH)] * MAX_OBJECTS
        for what, length in alone:
            segments.append(Segment("text", length, root))
            self.nodes.append((0, what))
            read += range(at, at + length - 1)
            kinds += [False] * (length - 1)
            at += length
        for asked in self.hops:
            index = {"question": len(segments)}
            segments.append(Segment("text", language.question_length(asked), root))
            self.nodes.append((asked, "question"))
            at += segments[-1].length
            pose, think = language.POSE_LENGTH, language.think_length(asked)
            length = {"answer": 1, "pose": pose, "think": think, "pause": pose + think}
            for name, parent, what in TREES[tree]:
                index[name] = len(segments)
                segments.append(Segment("text", length[what], index[parent]))
                self.nodes.append((asked, what))
                if what == "answer":
                    self.cells.append((asked, name))
                    read.append(at)
                    kinds.append(True)
                elif what != "pause":
                    read += range(at, at + length[what] - 1)
                    kinds += [False] * (length[what] - 1)
                at += length[what]
        self.padding = -at % 8  # attention kernels like multiples of 8
        if self.padding:
            segments.append(Segment("text", self.padding))
        self.segments = segments
        self.mask = attention_mask(segments).to(device)
        self.positions = positions(segments).to(device)
        self.read = torch.tensor(read, device=device)
        self.answers = torch.tensor(kinds, device=device)
        # Index tensors made once: making them in a step would make the host wait for the GPU.
        rows = self.answers.nonzero()[:, 0], (~self.answers).nonzero()[:, 0]
        self.answer_rows, self.context_rows = rows
        self.written = self.read[self.context_rows] + 1 - self.photo_length
        self.weights = torch.tensor([_ANSWER_WEIGHT.get(name, 1.0) for _, name in self.cells], device=device)
        self.before, self.after = neighbours(device)

    def fill(self, rooms: Rooms, noise: float, generator: torch.Generator | None) -> tuple[Tensor, Targets]:
        """Words (B, T) and targets for a batch of rooms.

        Contexts hold the truth, rounded at random in proportion; a `noise` share of the numbers is moved
        by one step, half of them up. Every copy of a context draws its own.
        """
        words: list[Tensor] = []
        aims: list[tuple[Tensor, ...]] = []  # low, high, share, weight
        batch = len(rooms)

        def aim(target: TwoHot, valid: Tensor) -> None:
            aims.append((*target, valid.expand_as(target[2])))

        def context(truth: TwoHot, valid: Tensor) -> None:
            words.append(self._rounded(truth, noise, generator))
            aim((truth[0][:, 1:], truth[1][:, 1:], truth[2][:, 1:]), valid)

        every = torch.ones(batch, 1, device=rooms.photos.device)
        objects = iter(range(MAX_OBJECTS))
        for hops, what in self.nodes:
            if what == "object":
                k = next(objects)
                low, high, share = (part[:, k] for part in rooms.objects)
                context((low, high, share), rooms.known[:, k : k + 1].float())
                continue
            if not hops:
                context(rooms.pose, every)
                continue
            asked = rooms.asked[hops]
            valid = asked.valid.float()[:, None]
            if what == "question":
                words.append(asked.question)
                continue
            if what == "pause":
                count = language.POSE_LENGTH + language.think_length(hops)
                words.append(torch.full_like(asked.question[:, :1], INDEX["<pause>"]).expand(-1, count))
                continue
            if what == "answer":
                words.append(torch.full_like(asked.answer, INDEX["<answer>"])[:, None])
                aim((asked.answer[:, None], asked.answer[:, None], torch.zeros_like(valid)), valid)
            else:
                context(rooms.pose if what == "pose" else asked.think, valid)
        if self.padding:
            words.append(torch.zeros(batch, self.padding, dtype=torch.long, device=words[0].device))
        low, high, share, weight = (torch.cat(parts, 1) for parts in zip(*aims, strict=True))
        return torch.cat(words, 1), Targets(low, high, share, weight)

    def _rounded(self, number: TwoHot, noise: float, generator: torch.Generator | None) -> Tensor:
        low, high, share = number
        lots = torch.rand(2, *share.shape, device=share.device, generator=generator)
        word = torch.where(lots[0] < share, high, low)
        word = torch.where(lots[1] < noise / 2, self.before[word], word)
        return torch.where(lots[1] > 1 - noise / 2, self.after[word], word)

    def rewrite(self, words: Tensor, logits: Tensor, who: Tensor) -> Tensor:
        """Words with the contexts of rooms `who` (B,) bool replaced by the model's own best words.

        logits (B, n, vocabulary) were read with `words`. Repeated k times (Jacobi decoding), the first k
        words of every context are what greedy decoding writes, and in practice most of the rest.
        """
        best = logits[:, self.context_rows].argmax(-1)  # (B, m)
        best = torch.where(who[:, None], best, words[:, self.written])
        return words.index_copy(1, self.written, best)


def losses(
    logits: Tensor,
    names: Tensor,
    depth: Tensor,
    low: Tensor,
    high: Tensor,
    share: Tensor,
    weight: Tensor,
    true_names: Tensor,
    true_depth: Tensor,
    answer_rows: Tensor,
    context_rows: Tensor,
    answer_weights: Tensor,
) -> Tensor:
    """Means of (answer, context, name, depth) losses: (4,). Words are two-hot: see `vocabulary`."""
    logs = logits.float().log_softmax(-1)
    lower = logs.gather(-1, low[..., None])[..., 0]
    upper = logs.gather(-1, high[..., None])[..., 0]
    cost = -torch.lerp(lower, upper, share)  # (B, n)
    answer = weight[:, answer_rows] * answer_weights
    context = weight[:, context_rows]
    return torch.stack(
        [
            (cost[:, answer_rows] * answer).sum() / answer.sum().clamp(min=1.0),
            (cost[:, context_rows] * context).sum() / context.sum().clamp(min=1.0),
            -(true_names.float() * names.float().log_softmax(-1)).sum(-1).mean(),
            F.smooth_l1_loss(depth.float(), true_depth, beta=0.1),
        ]
    )
