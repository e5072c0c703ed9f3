"""What a step of learning to draw is about: trees of words and pictures, and in which order they take turns.

generation, see `leaves`:

    prompt - *                                  direct
           - think - *                          short
                   - roll-out - *               short + visual
           - plan - *                           long
                  - roll-out - *                long + visual
           - roll-out - *                       visual
    nothing - *                                 what guidance leads away from
            - roll-out - *                      and where there is a roll-out

editing has the same tree under a photo, with a change in place of the prompt; novel_view one with a pose,
which has no thinking. The photo is read twice, as understanding sees it and as clean latents. It is never
dropped: what is drawn from a photo has its latents beside it at every step (`latents.Ends`), and without them
another task would be learned. So guidance leads away from words, and from roll-outs.

    photo - change - ...                        photo - pose - *          direct
          - nothing - ...                                    - roll-out - *   visual
                                                      - nothing - ...

depth reads both photos of a room, or the first alone, and contexts of both that the model writes elsewhere:

    photos - depth - *                          direct
                   - caption - *
                   - depth caption - *
                   - to both sides - *          visual
    photo - depth - *                           one photo

These are the full trees. Two others are controls: *direct* learns to write the same contexts and draws from
none, *pause* draws also from as many words that say nothing in the place of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .. import captions, edits, language, plans
from ..config import TASKS
from ..pairs import SIDES_LENGTH

Node = tuple[str, str | None, str]  # name, parent, what it holds
TREES = ("full", "direct", "pause")
PAUSE = "pause: "
"""Stands before the name of what a pause takes the place of."""
PHOTO, ALONE = "<photo>", "<first photo>"
"""Parents that are no words: the photos and their first one's latents; the first photo and its latents."""


@dataclass(frozen=True)
class Turn:
    """texts in the order of the sequence, parents first; leaves: those under which a picture is drawn; photos
    that are read before them; alone: whether the first photo is also a root of its own."""

    task: str
    texts: tuple[Node, ...]
    leaves: tuple[str, ...]
    photos: int = 0
    alone: bool = False

    @property
    def changes(self) -> bool:
        """Whether the photo's latents are kept where nothing new is said."""
        return self.task == "editing"

    def called(self, name: str) -> str:
        """A text or leaf in tables: with its task, but for the first of them."""
        return name if self.task == TASKS[0] else f"{self.task}: {name}"

    def length_of(self, what: str) -> int:
        """In words."""
        if what in ("prompt", "nothing"):
            return _ASKED[self.task][what]
        return _LENGTHS[what.removeprefix(PAUSE)]


def _drawn(task: str, asked: str, root: str | None, thought: bool) -> tuple[Turn, ...]:
    """The turns of a tree like that of generation."""
    photos = 0 if root is None else 1
    first, nothing = (asked, root, "prompt"), ("nothing", root, "nothing")
    turns = (
        (
            (first, ("short", asked, "think"), ("short + visual", "short", "roll-out")),
            (asked, "short", "short + visual"),
        ),
        (
            (first, ("long", asked, "plan"), ("long + visual", "long", "roll-out")),
            (asked, "long", "long + visual"),
        ),
        (
            (first, ("visual", asked, "roll-out"), nothing, ("nothing + visual", "nothing", "roll-out")),
            (asked, "visual", "nothing", "nothing + visual"),
        ),
    )
    return tuple(Turn(task, texts, leaves, photos) for texts, leaves in (turns if thought else turns[2:]))


TURNS: Mapping[str, tuple[Turn, ...]] = {
    "generation": _drawn("generation", "prompt", None, True),
    "editing": _drawn("editing", "change", PHOTO, True),
    "depth": (
        Turn(
            "depth",
            (
                ("direct", PHOTO, "prompt"),
                ("caption", "direct", "caption"),
                ("depth caption", "direct", "depth caption"),
                ("visual", "direct", "sides"),
                ("one photo", ALONE, "prompt"),
            ),
            ("direct", "caption", "depth caption", "visual", "one photo"),
            photos=2,
            alone=True,
        ),
    ),
    "novel_view": _drawn("novel_view", "pose", PHOTO, False),
}
_LENGTHS = {
    "think": plans.THINK_LENGTH,
    "plan": plans.PLAN_LENGTH,
    "roll-out": plans.ROLL_OUT_LENGTH,
    "caption": captions.CAPTION_LENGTH,
    "depth caption": captions.DEPTH_LENGTH,
    "sides": SIDES_LENGTH,
}
_ASKED = {
    "generation": {"prompt": plans.PROMPT_LENGTH, "nothing": len(plans.EMPTY)},
    "editing": {"prompt": edits.LENGTH, "nothing": len(edits.NO_CHANGE)},
    "depth": {"prompt": 1},
    "novel_view": {"prompt": language.POSE_LENGTH, "nothing": 2},
}
PREDICTED = ("think", "plan", "roll-out")
"""What a model learns to write; all else is given."""


def turns_of(task: str, tree: str = TREES[0]) -> tuple[Turn, ...]:
    """The turns of a task, as they are or as a control's. Raises ValueError for a tree that there is not."""
    if tree not in TREES:
        raise ValueError(f"no tree is called {tree!r}: there are {', '.join(TREES)}")
    return TURNS[task] if tree == TREES[0] else tuple(_control(turn, tree) for turn in TURNS[task])


def _control(turn: Turn, tree: str) -> Turn:
    given = {name for name, _, what in turn.texts if what in ("prompt", "nothing")}
    leaves = tuple(leaf for leaf in turn.leaves if leaf in given)
    if tree == "direct":
        return replace(turn, leaves=leaves)
    texts = list(turn.texts)
    for name, parent, what in turn.texts:
        if name in given or parent == "nothing":  # what guidance leads away from has no contexts
            continue
        texts.append((PAUSE + name, parent if parent in given else f"{PAUSE}{parent}", PAUSE + what))
        leaves += (PAUSE + name,) * (name in turn.leaves)
    return replace(turn, texts=tuple(texts), leaves=leaves)


def rotation(tasks: Sequence[str], shares: Mapping[str, int]) -> list[str]:
    """Tasks in the order in which they take turns, each as often as its share says, spread evenly. Raises
    ValueError for no task, an unknown one, or a share below 1."""
    if not tasks or any(task not in TURNS or shares.get(task, 0) < 1 for task in tasks):
        raise ValueError(
            f"tasks {', '.join(tasks) or '(none)'}: each is one of {', '.join(TASKS)}, with a share"
        )
    due = [((k + 0.5) / shares[task], i, task) for i, task in enumerate(tasks) for k in range(shares[task])]
    return [task for _, _, task in sorted(due)]


def turn_of(number: int, order: Sequence[str]) -> tuple[str, int]:
    """Of step `number` of a rotation its task, and how many steps of that task came before."""
    rounds, place = divmod(number, len(order))
    task = order[place]
    return task, rounds * order.count(task) + order[:place].count(task)
