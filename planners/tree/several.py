"""Several trees taken together: which may be, and what their scores are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from planners.tree.faults import TreeError
from planners.tree.recipe import Recipe

if TYPE_CHECKING:
    from planners.tree.complete import CompleteTree

    Trees = CompleteTree | Iterable[CompleteTree]


def several_of(trees: Trees) -> tuple[CompleteTree, ...]:
    """One tree, or several, as a tuple. Raises TreeError for none, for what is no tree, for one that is there
    twice, and for a task that is scored in two ways."""
    found: tuple[Any, ...] = (trees,) if is_tree(trees) else _items(trees)
    if not found:
        raise TreeError("there is no tree: give at least one")
    for i, tree in enumerate(found):
        if not is_tree(tree):
            raise TreeError(f"{tree!r:.80} is no tree: open one with planners.tree.load(folder)")
        if any(tree is other or tree.recipe == other.recipe for other in found[:i]):
            raise TreeError("a tree is there twice: give each once, so that its problems count once")
    scorer_of(found)
    return found


def scorer_of(trees: Sequence[CompleteTree]) -> str:
    """What the scores are called. Raises TreeError where one task is scored in two ways: between tasks,
    points are points of each task's own scorer."""
    of: dict[str, str] = {}
    for tree in trees:
        for task in tree.recipe.tasks:
            if of.setdefault(task.task, tree.recipe.scorer) != tree.recipe.scorer:
                one, other = sorted((of[task.task], tree.recipe.scorer))
                raise TreeError(f"scores of {one} and {other} cannot be compared: take one scorer a task")
    return " and ".join(dict.fromkeys(of.values()))


def is_tree(thing: Any) -> bool:
    return isinstance(getattr(thing, "recipe", None), Recipe)


def _items(trees: Any) -> tuple[Any, ...]:
    if isinstance(trees, (str, bytes)) or not isinstance(trees, Iterable):
        return (trees,)
    return tuple(trees)
