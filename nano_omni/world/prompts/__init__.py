"""Compositional prompts: what a picture of a room is to show, in words, and rooms that show it.

    composition = parse("two red cones left of a blue box, and the blue box behind a green sphere")
    composition.atoms()                          # what is asked of a picture, one constraint each
    staged = stage([composition], seeds)         # a room with just these objects, and a camera
    judge(composition, staged.found(0))          # which atoms hold, and what else is there

`compositions` says what prompts there are, `english` reads and writes them, `stage` lays them out; `changes`
says how one object of a picture may be changed, `restage` changes it.
"""

from .changes import WHATS, Change, expected, parse_change
from .compositions import MOST, RELATIONS, Atom, Composition, Found, Group, Verdict, judge
from .english import PromptError, parse, write
from .restage import change, draw_changes
from .stage import Staged, draw, stage

__all__ = [
    "MOST",
    "RELATIONS",
    "WHATS",
    "Atom",
    "Change",
    "Composition",
    "Found",
    "Group",
    "PromptError",
    "Staged",
    "Verdict",
    "change",
    "draw",
    "draw_changes",
    "expected",
    "judge",
    "parse",
    "parse_change",
    "stage",
    "write",
]
