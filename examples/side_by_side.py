"""A planner lays out a graph of calls from what they read and write; independent ones share a step."""

from planners.graph import GraphPlanner
from unroller import Executor
from unroller.registry import load

wanted = ["camera_pose_estimate", "novel_view_synthesis", "describe_motion", "depth_estimate"]
executor = Executor(backend="classical", planner=GraphPlanner(wanted))
run = executor.run(load("problems", "rooms")(seed=7))
for decision in run.decisions:
    print(f"step {decision.step + 1}:", ", ".join(str(call) for call in decision.calls))
