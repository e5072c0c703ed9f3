"""Every example runs as its first lines say, in a folder of its own."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SAYS = {
    "two_photographs": "Task pose.",
    "own_primitive": "The viewing directions differ by",
    "own_policy": "camera_pose_estimate → depth_estimate",
    "own_backend": "bright (78%)",
    "own_checkpoint": "The photos are alike to 1.00.",
    "many_problems": "5 <campose>",
    "fork_and_compare": "camera_pose_estimate → depth_estimate         computed 0",
    "compare_policies": "helped costs 2.7",
    "train_policy": "south → look, ask_south 3 calls",
    "side_by_side": "step 1: camera_pose_estimate, novel_view_synthesis",
    "maskable_ppo": "of 0.8452 in 2,048 steps",
    "torchrl_ppo": "of 0.8452 in 1,024 steps",
    "rllib_ppo": "of 0.8452 in 1,024 steps",
    "verl_agent_loop": "8 rows; the agent may call camera_pose_estimate",
    "pictures_from_photos": "depths 0, direct: δ1",
    "walks_from_photos": "walk 0: go forward",
    "write_better": "weights and curves are in",
}
SHORTER = {
    "maskable_ppo": ["--steps", "2048"],
    "torchrl_ppo": ["--steps", "1024"],
    "rllib_ppo": ["--steps", "1024"],
}
NEEDS = {
    "maskable_ppo": "sb3_contrib",
    "torchrl_ppo": "torchrl",
    "rllib_ppo": "ray",
    "pictures_from_photos": "matplotlib",
    "walks_from_photos": "matplotlib",
}
ELSEWHERE = {"trl_grpo"}  # needs a language model: tests/policies/test_trl.py


def test_every_example_is_here():
    assert SAYS.keys() | ELSEWHERE == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name, tmp_path):
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    command = [sys.executable, EXAMPLES / f"{name}.py", *SHORTER.get(name, ())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
