"""Fork a run and compare what different contexts lead to, paying for what they share only once."""

from unroller import Executor, Problem
from unroller.registry import load

room = load("problems", "rooms")(seed=5)
x = Problem(task="depth", images=room.images, intrinsics=room.intrinsics)

executor = Executor(backend="classical", policy=["camera_pose_estimate", "depth_estimate"])
full = executor.run(x)
print("full:  ", full, "computed", full.spent.computed)

after_pose = full.at(1)  # the workspace as it was after one decision: shared, not copied
forked = executor.extend(policy=["novel_view_synthesis"]).run(after_pose)
print("forked:", forked, "computed", forked.spent.computed)

tree = executor.tree(x, actions=["camera_pose_estimate", "depth_estimate"], depth=2)
for node in tree.nodes():
    print(f"{' → '.join(node.prefix) or 'direct':45} computed {node.run.spent.computed}")
