"""From two photos of a room to the camera's motion, with the primitives and the backend that ship."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller.cli.run import EXAMPLE


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two photos of procedural room 7 as files, the second taken from a step aside."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("cv2")
    from nano_omni.world import render_pair

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many threads for small tensors wait for one another
    try:
        pair = render_pair(7, 320, 240, samples=1)
    finally:
        torch.set_num_threads(threads)
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / "first.png", folder / "second.png"]
    for path, pixels in zip(paths, pair.images, strict=True):
        Pillow.fromarray(pixels.numpy()).save(path)
    k = pair.intrinsics
    camera = ",".join(f"{float(v):.3f}" for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    return [*map(str, paths), "--intrinsics", camera]


def test_pose(unroller, photos):
    said = unroller("run", "--task", "pose", *photos)
    assert said.code == 0
    assert re.search(r"^The camera moved .* turned .*°.*\.$", said.out, re.M)
    assert re.search(r"^<campose>(-?\d+\.\d{6} ?){6}</campose>$", said.out, re.M)
    assert re.search(r"\d+ of \d+ matches are inliers", said.out)
    assert re.search(r"camera_pose_estimate\s+CameraPose\s+1 call", said.out)


def test_depth(unroller, photos, folder):
    said = unroller("run", "--task", "depth", *photos, "--out", "kept")
    assert said.code == 0
    depth = np.load(folder / "kept/output/output.npy", allow_pickle=False)
    assert depth.shape == (240, 320) and depth.dtype == np.float32 and np.isfinite(depth).all()
    assert Pillow.open(folder / "kept/output/output.png").size == (320, 240)


def test_novel_views(unroller, photos, folder):
    said = unroller("run", "--task", "novel_view", *photos, "--look", "left,right", "--out", "kept")
    assert said.code == 0
    names = {path.name for path in (folder / "kept/output").glob("output-*")}
    assert names == {"output-left.png", "output-right.png"}


def test_a_view_from_a_pose(unroller, photos, folder):
    """From two photos: the depth map in the context gives the picture its parallax."""
    said = unroller(
        "run", "--task", "novel_view", *photos, "--pose", "0.3 0 0 0 0 0", "--out", "kept", "--json"
    )
    assert said.code == 0, said.err
    assert "DepthMap" in str(said.json["events"])
    (view,) = (folder / "kept/output").glob("output-*")
    assert Pillow.open(view).size == (320, 240)


@pytest.mark.parametrize("example", EXAMPLE.splitlines()[1:])
def test_the_examples_of_the_help_can_work(unroller, photos, folder, example):
    """Those of its own tasks: their task gets as many photos as it needs."""
    words = shlex.split(example)
    elsewhere = {"spatial", "generation", "video", "--problem", "--use"}  # in tests of their own
    if words[:2] != ["unroller", "run"] or elsewhere & set(words):
        return
    given = iter(photos[:2])
    words = [next(given) if word.endswith((".png", ".jpg")) else word for word in words[1:]]
    said = unroller(*(word for word in words if word != "--open"))
    assert said.code == 0, said.err


@pytest.mark.parametrize("asked", ["-1", f"{1 << 80}", "3 --problem-option width=100000000"])
def test_a_room_that_cannot_be_drawn_is_refused(unroller, asked):
    said = unroller("run", "--problem", *f"rooms:{asked}".split())
    assert said.code == 3 or said.code == 2, said.err
    assert "rooms are numbered" in said.err or "sides are 16 to 4096" in said.err or "as rooms:7" in said.err


def test_a_problem_set_knows_the_truth(script):
    options = ["--problem-option", "width=320", "--problem-option", "height=240"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    said = script("run", "--problem", "rooms:7", *options, "--backend", "classical", env=env)
    assert said.returncode == 0, said.stderr
    rotation, direction = map(float, re.findall(r"(?:rotation|direction) (\d+\.\d+)°", said.stdout))
    assert rotation < 1 and direction < 5


def test_a_walk_from_a_picture_of_a_room_is_filmed(unroller, folder):
    room = Path(__file__).parents[3] / "examples" / "rooms" / "bare3.png"
    walk = ("-p", "go forward 0.8 m and turn left 20 degrees", "--metadata", "frames=3")
    said = unroller("run", "--task", "video", room, *walk, "--out", folder / "kept", "--json")
    assert said.code == 0, said.err
    assert said.json["output"]["type"] == "Video"
    with Pillow.open(folder / "kept/output/output.png") as clip:
        assert clip.n_frames == 3 and clip.size == (64, 64)
