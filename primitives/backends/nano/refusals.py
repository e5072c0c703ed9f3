"""What the embedded model says it does not know: photos unlike its rooms, objects that it does not see."""

from __future__ import annotations

from typing import Any

from primitives.backends.nano.prompts import Asked

SHOWN = 0.3
"""The probability of an object, in any patch of photo 1, from which that photo shows it: of 1,763 objects
that are there, large or small, half have more, of 908 that are not 1, of 475 that were asked about none."""


def unknown(asked: Asked, look: Any, familiar: Any) -> str | None:
    """Why the model does not know what it is shown or asked about, if so."""
    from nano_omni.vocabulary import OBJECT_0, OBJECTS

    if familiar.is_strange(look):
        far = float(familiar.distance(look.feature).max())
        return (
            f"these photos are not like the rooms the nano model was trained on (distance {far:.0f},"
            f" familiar up to {familiar.strange:.0f}): choose a backend made for photographs with"
            " --backend; `unroller primitives` lists what each provides"
        )
    objects = [word - OBJECT_0 for word in asked.question if 0 <= word - OBJECT_0 < len(OBJECTS)]
    for k in objects:
        if float(look.seen[k + 1]) < familiar.seen:
            likely = look.seen[1:].argsort(descending=True)[:6].tolist()
            there = ", ".join(f"the {OBJECTS[i]}" for i in likely if look.seen[i + 1] > 0.5)
            return (
                f"the nano model sees no {OBJECTS[k]} in these photos; it sees"
                f" {there or 'nothing it is sure of'}: ask about those"
            )
    if asked.form == 1 and float(look.shown[0, objects[-1] + 1]) > SHOWN:
        return (
            f"photo 1 shows the {OBJECTS[objects[-1]]} itself: the nano model was taught to say where"
            " something is that only photo 2 shows"
        )
    return None
