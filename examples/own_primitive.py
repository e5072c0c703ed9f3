"""A new primitive φ in ten lines: how far apart are the viewing directions of two photographs?

What it reads is declared, so the executor knows when its value can be reused, and nothing undeclared can
be read. Check one of your own with `unroller check own_primitive:view_angle`.
"""

import math

from unroller import CameraPose, Executor, Text, primitive
from unroller.faults import InputError
from unroller.registry import load


@primitive(reads=(CameraPose,), writes=Text)
def view_angle(view):
    """Say by how much the two viewing directions differ."""
    pose = view.latest(CameraPose)
    if pose is None:
        raise InputError("call camera_pose_estimate first")
    degrees = math.degrees(math.acos(pose.rotation_matrix[2, 2]))
    return Text(f"The viewing directions differ by {degrees:.0f}°.", kind="note")


if __name__ == "__main__":
    executor = Executor(backend="classical").extend(
        primitives=[view_angle], policy=["camera_pose_estimate", view_angle]
    )
    run = executor.run(load("problems", "rooms")(seed=7))
    for text in run.workspace.all(Text):
        print(text.words())
