"""How did the camera move between two photographs?

    python examples/two_photographs.py first.jpg second.jpg

Without arguments it renders two pictures of a room. Writes report.html beside them.
"""

import sys

from unroller import Executor, Problem
from unroller.registry import load

if len(sys.argv) == 3:
    x = Problem.relative_pose(sys.argv[1], sys.argv[2])
elif len(sys.argv) == 1:
    x = load("problems", "rooms")(seed=7)
else:
    sys.exit("give two photographs, or none")

with Executor(backend="classical", policy="schedule") as executor:
    run = executor.run(x)

print(run.explain())
if run.output is not None:
    print(run.output.campose)
print("report:", run.report("report.html"))
