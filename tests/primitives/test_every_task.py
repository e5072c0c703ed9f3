"""`unroller run` for every task, on one composite of real classes of transformers and diffusers: a chat
model, a matcher, a depth model, visual tokens, pictures, edits, views and clips, each a tiny checkpoint."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller.cli import main

cv2 = pytest.importorskip("cv2")
pytest.importorskip("transformers")
pytest.importorskip("ftfy")

from tiny.chat_models import llava, saved  # noqa: E402
from tiny.depth_models import save_depth_anything  # noqa: E402
from tiny.janus_models import save_janus  # noqa: E402
from tiny.matchers import HEIGHT, WIDTH, save_efficientloftr  # noqa: E402
from tiny.pipelines import save_flux, save_instruct_pix2pix  # noqa: E402
from tiny.video_pipelines import save_wan  # noqa: E402

SETUP = """
text = "hf:chat?device=cpu"
pose = "hf:match?device=cpu"
depth = "hf:depth?device=cpu"
tokens = "janus:janus?device=cpu"
image = "diffusers_image:flux?steps=1&device=cpu&window=cut"
edit = "diffusers_image:pix2pix?steps=1&device=cpu&window=cut"
views = "diffusers_video:vace?steps=1&frames=5&pixels=1536&device=cpu"
video = "diffusers_video:wan?steps=1&device=cpu"
"""

QUESTION = ["-q", "Where is it?", "--choices", "left,right"]
DRAWN = ["--metadata", "width=32,height=16"]

TASKS = {
    "understanding": [*QUESTION, "--calls", "detailed_caption,latent_think", "a.png"],
    "spatial": [
        *QUESTION,
        "--calls",
        "camera_pose_estimate,visual_token_rollout,describe_motion+novel_view_synthesis:sides,text_think",
        "a.png",
        "b.png",
    ],
    "generation": ["-p", "a red cone", *DRAWN, "--calls", "", "a.png"],
    "editing": ["-p", "make it red", "--calls", "depth_estimate", "a.png"],
    "depth": ["--calls", "camera_pose_estimate,depth_estimate", "a.png", "b.png"],
    "pose": ["--calls", "camera_pose_estimate,describe_motion", "a.png", "b.png"],
    "novel_view": ["--look", "left", "--calls", "depth_estimate", "a.png"],
    "video": ["-p", "a red cone", "--metadata", "width=32,height=32,frames=5", "--calls", ""],
}

WRITES = {
    "understanding": "Answer",
    "spatial": "Answer",
    "generation": "Image",
    "editing": "Image",
    "depth": "DepthMap",
    "pose": "CameraPose",
    "novel_view": "NovelViews",
    "video": "Video",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name in ("chat", "match", "depth", "janus", "flux", "pix2pix", "vace", "wan"):
        (root / name).mkdir()
    saved(root / "chat", llava(longest=4096))
    save_efficientloftr(root / "match")
    save_depth_anything(root / "depth", "metric", 20)
    save_janus(root / "janus")
    save_flux(root / "flux")
    save_instruct_pix2pix(root / "pix2pix")
    save_wan(root / "vace")
    save_wan(root / "wan", "WanPipeline")
    (root / "setup.toml").write_text(SETUP)
    return root


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """a.png and b.png: a far wall above a near one, before a camera that steps to the right."""
    monkeypatch.chdir(tmp_path)

    def texture(seed):
        coarse = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 2, WIDTH, 3), np.uint8)
        return cv2.resize(coarse, (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    far, near = texture(1), texture(51)
    for name, step in (("a.png", 0), ("b.png", 8)):
        picture = far[:, step : step + WIDTH].copy()
        picture[HEIGHT // 2 :] = near[HEIGHT // 2 :, 3 * step : 3 * step + WIDTH]
        Pillow.fromarray(picture).save(name)


@pytest.mark.parametrize("task", TASKS)
def test_unroller_run_answers_every_task(task, models, photos, capsys):
    told = ["--backend", models / "setup.toml", *TASKS[task], "--out", "kept", "--json", "--no-contributions"]
    code = main(["run", "--task", task, *map(str, told)], standalone_mode=False)
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert code == 0, said.err
    assert document["output"]["type"] == WRITES[task]
    assert not [event for event in document["events"] if event["type"] == "fault"]
    steps = TASKS[task][TASKS[task].index("--calls") + 1].replace("+", ",").split(",")
    entries = [event["action"] for event in document["events"] if event["type"] == "entry"]
    assert sorted(entries) == sorted(call for call in steps if call)
    again = ["runs", "explain", "kept", "--use", str(models / "setup.toml")]
    assert main(again, standalone_mode=False) == 0
