"""Is a policy worth what it costs? Held against everything that it has to beat, at equal mean cost.

    python examples/compare_policies.py

The tree is a synthetic one, so that this takes seconds and no model; `unroller tree` builds one of yours.
"""

import numpy as np

from planners import comparison, tree
from unroller import STOP, policy

# A problem is easy, or needs one of two helpers; which, the probe `hint` shows once `look` was called.
problems = tree.synthetic(600, helpers=2, draws=2, luck=0.05)


@policy(probes=("hint",))
def helped(state):
    """Look, and then call the helper that is needed."""
    if state.step == 0:
        return "look"
    needed = int(np.argmax(state.probe.hint))
    return f"help_{needed}" if state.step == 1 and needed else STOP


found = comparison.compare(
    problems, {"helped": helped, "both": ["help_1", "help_2"]}, weights=[0.02], share=0.5, resamples=2_000
)
print(found)

row = found.row("helped")
gain = row.over_fixed.gain
print(f"helped costs {row.cost.mean:.2f} calls, and scores over fixed schedules that cost the same", end=" ")
print(f"{100 * gain.mean:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]")
