"""Depth and view measures against what can be worked out by hand, and scorers that say what they miss."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unroller import DepthMap, NovelViews, Problem, Text, Video
from unroller.faults import ContractError, ProblemError
from unroller.measures import depth_errors, psnr, ssim
from unroller.picture_scorers import depth, depth_affine, depth_scaled, novel_view, video

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (24, 30, 3), np.uint8)
DEPTH = RNG.uniform(1, 5, (8, 10))


def test_psnr_is_what_its_formula_says():
    assert psnr(PICTURE, PICTURE) == math.inf
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(grey, grey + 10) == pytest.approx(10 * math.log10(255**2 / 100))
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(grey, grey[:2])


def test_ssim_of_plain_pictures_is_that_of_their_means():
    assert ssim(PICTURE, PICTURE) == pytest.approx(1)
    a, b = (np.full((16, 16, 3), value, np.uint8) for value in (50, 80))
    c = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 50 * 80 + c) / (50**2 + 80**2 + c))
    assert ssim(PICTURE, 255 - PICTURE) < 0


def test_ssim_of_one_window_is_worked_out_directly():
    a, b = PICTURE[:11, :11].astype(float), PICTURE[10:21, 5:16].astype(float)
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = (np.outer(line, line) / line.sum() ** 2)[..., None]
    means = [(weight * x).sum((0, 1)) for x in (a, b)]
    spread = [(weight * (x - m) ** 2).sum((0, 1)) for x, m in zip((a, b), means, strict=True)]
    both = (weight * (a - means[0]) * (b - means[1])).sum((0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * means[0] * means[1] + c1) * (2 * both + c2)
    each = alike / ((means[0] ** 2 + means[1] ** 2 + c1) * (spread[0] + spread[1] + c2))
    assert ssim(a.astype(np.uint8), b.astype(np.uint8)) == pytest.approx(each.mean())
    with pytest.raises(ValueError, match="needs 11 pixels"):
        ssim(PICTURE[:10], PICTURE[:10])


def test_depth_is_judged_with_the_alignment_that_is_named():
    assert depth_errors(DEPTH, DEPTH) == (1, 0)
    within, relative = depth_errors(1.5 * DEPTH, DEPTH)
    assert within == 0 and relative == pytest.approx(0.5)
    assert depth_errors(1.5 * DEPTH, DEPTH, "scale") == pytest.approx((1, 0))
    shifted = 2 * DEPTH + 1
    assert depth_errors(shifted, DEPTH, "scale")[1] > 0.01
    assert depth_errors(shifted, DEPTH, "affine") == pytest.approx((1, 0), abs=1e-9)
    with pytest.raises(ValueError, match="choose none, scale or affine"):
        depth_errors(DEPTH, DEPTH, "somehow")


def test_what_has_no_depth_is_wrong_and_what_has_no_truth_is_left_out():
    half = DEPTH.copy()
    half[:4] = 0
    assert depth_errors(half, DEPTH) == (0.5, 0.5)
    assert depth_errors(half, DEPTH, "scale")[0] == pytest.approx(0.5)
    assert depth_errors(DEPTH, half) == (1, 0)
    assert depth_errors(np.zeros_like(DEPTH), DEPTH, "affine") == (0, 1)
    with pytest.raises(ValueError, match="known nowhere"):
        depth_errors(DEPTH, np.zeros_like(DEPTH))


def test_a_map_of_another_size_is_read_at_the_nearest_pixels():
    large = DEPTH.repeat(2, 0).repeat(3, 1)
    assert depth_errors(DEPTH, large) == (1, 0) and depth_errors(large, DEPTH) == (1, 0)


def problem(**truth):
    return Problem(task="depth", images=[PICTURE], metadata={"truth": truth})


def test_scorers_of_depth(tmp_path):
    true = problem(depth=DEPTH.tolist())
    assert depth(true, DepthMap(DEPTH)) == {"score": 1, "1 - AbsRel": 1}
    twice = DepthMap(2 * DEPTH, unit="baseline")
    assert depth_scaled(true, twice)["score"] == depth_affine(true, twice)["score"] == 1
    with pytest.raises(ContractError, match="take depth_scaled"):
        depth(true, twice)
    assert depth(true, None) == {"score": 0, "1 - AbsRel": 0}
    unseen = np.zeros(DEPTH.shape, bool)
    unseen[:, :5] = True
    map_ = DepthMap(np.where(unseen, DEPTH, 0.0), valid=unseen)
    assert depth(true, map_)["score"] == 0.5
    np.save(tmp_path / "true.npy", DEPTH)
    assert depth(problem(depth=str(tmp_path / "true.npy")), DepthMap(DEPTH))["score"] == 1


def test_scorers_of_views():
    views = np.stack([PICTURE, 255 - PICTURE])
    true = problem(views=views.tolist())
    same = novel_view(true, NovelViews(views, ("left", "right")))
    assert same["score"] == pytest.approx(1) and same["PSNR"] == 1
    half = novel_view(true, NovelViews(views[[0, 0]], ("left", "right")))
    assert half["score"] == pytest.approx(0.5)
    dark = np.zeros_like(views)
    assert novel_view(true, NovelViews(dark, ("left", "right")))["PSNR"] == pytest.approx(
        (psnr(dark[0], views[0]) + psnr(dark[1], views[1])) / 200
    )


def test_scores_of_clips_leave_out_the_frame_that_is_given():
    frames = np.stack([PICTURE, 255 - PICTURE, 255 - PICTURE])
    true = problem(frames=frames.tolist())
    same = video(true, Video(frames))
    assert same["score"] == pytest.approx(1) and same["PSNR"] == 1
    assert same["SSIM of standing still"] == video(true, Video(frames[[0, 0, 0]]))["score"] < 0.1
    assert video(true, Video(frames[[0, 1, 0]]))["score"] == pytest.approx(0.5, abs=0.05)
    assert video(true, None)["score"] == 0


@pytest.mark.parametrize(
    ("score", "truth", "output", "error", "words"),
    [
        (video, {"frames": [PICTURE.tolist()] * 2}, Text("left"), ContractError, "is a Text"),
        (video, {"frames": [PICTURE.tolist()]}, Video(PICTURE[None]), ProblemError, "one frame"),
        (video, {"frames": [PICTURE.tolist()] * 2}, Video(PICTURE[None]), ContractError, "the shape"),
        (video, {}, Video(PICTURE[None]), ProblemError, "has no truth"),
        (depth, {}, DepthMap(DEPTH), ProblemError, "has no truth"),
        (depth, {"depth": [1, 2]}, DepthMap(DEPTH), ProblemError, r"shape \(2,\)"),
        (depth, {"depth": "nowhere.npy"}, DepthMap(DEPTH), ProblemError, "cannot be read"),
        (depth, {"depth": [["a"]]}, DepthMap(DEPTH), ProblemError, "the type"),
        (depth, {"depth": [[0.0]]}, DepthMap(DEPTH), ProblemError, "known nowhere"),
        (depth_affine, {"depth": DEPTH.tolist()}, Text("far"), ContractError, "is a Text"),
        (novel_view, {"views": [PICTURE.tolist()]}, Text("left"), ContractError, "is a Text"),
        (
            novel_view,
            {"views": [PICTURE.tolist()]},
            NovelViews(PICTURE[None, :12], ("left",)),
            ContractError,
            "have the shape",
        ),
    ],
)
def test_what_cannot_be_scored_says_why(score, truth, output, error, words):
    with pytest.raises(error, match=words):
        score(problem(**truth), output)
