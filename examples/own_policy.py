"""A new policy π: estimate depth only where the camera moved enough for two photos to show it.

A policy is a function of the state. It sees the problem, the context so far, what is left of the budget
and which actions are allowed, and answers with an action's name, several of them, or STOP.
"""

from unroller import STOP, CameraPose, Executor, policy
from unroller.registry import load


@policy
def depth_if_it_moved(state):
    """Pose first; then depth, unless the camera only turned."""
    pose = state.workspace.latest(CameraPose)
    if pose is None:
        return "camera_pose_estimate" if state.step == 0 else STOP
    if state.step == 1 and pose.scale != "none":
        return "depth_estimate"
    return STOP


if __name__ == "__main__":
    executor = Executor(backend="classical", policy=depth_if_it_moved, budget={"model_calls": 4})
    run = executor.run(load("problems", "rooms")(seed=3))
    print(run, "charged", run.cost)
