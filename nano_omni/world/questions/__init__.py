"""Questions about two photos of a room: chains of 1 to 4 hops, counting, comparing.

    q = ask(sight(scene, c2w, ids), 3)
    q.text(0), q.choices(0), q.answer[0], q.valid[0]

Whatever is asked, both photos are needed. Everything is decided by the scene's seed and worked out for the
whole batch at once: all tuples of objects are judged, and one is drawn among those with the answer that was
drawn beforehand, so answers are balanced and the words of a question say nothing about them.
"""

from ..sight import Sight
from .chains import HOPS, Chain, chain
from .comparing import Comparison, compare
from .counting import Count, count

Form = int | str
FORMS: tuple[Form, ...] = (*HOPS, "count", "compare")
Question = Chain | Count | Comparison

__all__ = ["FORMS", "HOPS", "Chain", "Comparison", "Count", "Form", "Question", "ask"]


def ask(seen: Sight, form: Form) -> Question:
    """A question of one of FORMS, a number of hops or a name, for each scene. Raises ValueError."""
    if form == "count":
        return count(seen)
    if form == "compare":
        return compare(seen)
    if form not in HOPS:
        raise ValueError(f"questions are of {', '.join(map(str, FORMS))}, not {form!r}")
    return chain(seen, int(form))
