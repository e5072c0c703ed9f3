"""Many problems at once, batched across problems, journaled, and resumed after a kill.

Stop it with Ctrl-C and start it again: it goes on from the last finished call. Faults are recorded and the
rest goes on; `runs/many` can be looked at with `unroller runs show runs/many`.
"""

from unroller import Executor
from unroller.registry import load

rooms = load("problems", "rooms")
problems = (rooms(seed, width=320, height=240) for seed in range(6))

with Executor(backend="classical", journal="runs/many", resume=True) as executor:
    for run in executor.map(problems):
        failed = f"  ({run.faults[-1].message})" if run.output is None else ""
        print(run.number, run.output_words, f"{run.seconds:.2f} s", failed)
