"""How far a call is that takes many steps: a backend says it, who watches a run shows it.

    for step in range(steps):
        ...
        progress.tell(step + 1, steps)          # in a backend; costs nothing where nobody listens

    with progress.heard(lambda done, of: print(f"{done}/{of}")):
        executor.run(problem)

A backend does not know for which run it works, and may work in a thread of its own: everybody in the process
who listens is told.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

Listener = Callable[[int, int], None]

_listeners: list[Listener] = []


def tell(done: int, of: int) -> None:
    """Say that `done` of `of` steps of the call under way are done; 0 of them as it begins."""
    for listener in tuple(_listeners):  # others may come and go in other threads
        listener(done, of)


@contextmanager
def heard(by: Listener) -> Generator[None]:
    """Have a function told, in whichever thread the call is made, for as long as this lasts."""
    _listeners.append(by)
    try:
        yield
    finally:
        _listeners.remove(by)
