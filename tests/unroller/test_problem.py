"""The problem x: what it accepts, what it refuses and how it says so, and the digests of its fields."""

import numpy as np
import pytest

from unroller import CameraPose, Image, Intrinsics, Problem
from unroller.faults import ImageError, ProblemError
from unroller.problem import FIELDS, MAX_TEXT


def photo(seed=0, height=6, width=8):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])


# -------------------------------------------------------------------------------------------- making one


def test_each_task_of_ours_has_its_own_constructor():
    a, b = photo(0), photo(1)
    made = [
        Problem.understanding(a, question="What is this?"),
        Problem.spatial(a, b, question="Where?", choices=["left", "right"]),
        Problem.relative_pose(a, b),
        Problem.depth(a),
        Problem.novel_view(a, look=("left",)),
        Problem.generation("a red cone"),
        Problem.editing(a, "make it blue"),
        Problem(task="my_task", prompt="a plug-in's"),
    ]
    tasks = "understanding spatial pose depth novel_view generation editing my_task"
    assert [x.task for x in made] == tasks.split()
    assert made[1].choices == ("left", "right") and len(made[1].images) == 2


def test_pictures_may_be_paths_arrays_pillow_pictures_tensors_or_images(tmp_path):
    torch = pytest.importorskip("torch")
    from PIL import Image as Pillow

    pixels = photo()
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    given = [
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        pixels,
        Pillow.fromarray(pixels),
        torch.from_numpy(pixels),
        Image(pixels),
    ]
    problems = [Problem.depth(picture) for picture in given]
    assert len({x.digest("images") for x in problems}) == 1, "the same pixels are the same picture"
    assert problems[0].images[0].source.endswith("a.png")


def test_one_picture_needs_no_list():
    assert len(Problem(task="depth", images=photo()).images) == 1


@pytest.mark.parametrize("task", ["", "Pose", "my task", "1st", "a" * 65, "rm -rf", None, 3])
def test_a_task_is_named_in_lower_case(task):
    with pytest.raises(ProblemError, match="task"):
        Problem(task=task)


def test_an_unknown_field_is_named():
    with pytest.raises(ProblemError, match="qestion"):
        Problem(task="spatial", qestion="Where?")


# -------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * 1_000_000, "1,000,000 characters is over the limit of 32,768"),
        ("where\x00?", r"control character U\+0000 at position 5"),
        ("where\x1b[31m?", r"control character U\+001B"),
        ("\x7f", r"control character U\+007F"),
        ("half an emoji \ud83d", "half a character at position 14"),
        ("", "is empty"),
        (" \n\t ", "is empty"),
        (b"bytes", "question"),
        (7, "question"),
    ],
    ids=["1 MB", "NUL", "escape", "DEL", "surrogate", "empty", "blank", "bytes", "number"],
)
def test_a_question_that_cannot_be_asked_is_refused_with_the_reason(text, says):
    with pytest.raises(ProblemError, match=says):
        Problem.spatial(photo(), question=text)
    with pytest.raises(ProblemError):
        Problem.generation(text)


def test_a_question_of_the_greatest_length_with_tags_tabs_and_any_script_is_fine():
    for question in ["x" * MAX_TEXT, "a\tb\nc\r\n", "</think><campose>1 0 0 0 0 0</campose>", "où? 哪里? 🙂"]:
        assert Problem.spatial(photo(), question=question).question == question


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ("left", "must be a list"),
        (["left", "left"], "'left' is there twice"),
        (["left", " "], "is empty"),
        (["left", "ri\x00ght"], "control character"),
        (["left", "x" * 40_000], "over the limit"),
        (["left", 3], "choices"),
        (7, "choices"),
    ],
)
def test_choices_that_cannot_be_chosen_among_are_refused(choices, says):
    with pytest.raises(ProblemError, match=says):
        Problem.spatial(photo(), question="Where?", choices=choices)


# ------------------------------------------------------------------------------------------------ cameras


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.diag([500.0, 0.0, 1.0]),
        np.diag([500.0, -500.0, 1.0]),
        np.full((3, 3), np.nan),
        np.eye(4),
        np.array([[500, 5, 320], [0, 500, 240], [0, 0, 1.0]]),
        {"fx": 0, "fy": 500, "cx": 1, "cy": 1},
        {"fx": 500, "fy": 500, "cx": float("inf"), "cy": 1},
        {"fx": 500},
        {"fx": 500, "fy": 500, "cx": 1, "cy": 1, "k1": 0.1},
        "a pinhole",
        5,
        [5],
    ],
    ids=str,
)
def test_intrinsics_that_are_singular_or_no_pinhole_camera_are_refused(matrix):
    with pytest.raises(ProblemError):
        Problem.relative_pose(photo(0), photo(1), intrinsics=matrix)


def test_intrinsics_may_be_a_matrix_a_mapping_one_for_all_or_one_a_photo():
    torch = pytest.importorskip("torch")
    a, b = photo(0), photo(1)
    mapping = {"fx": 500, "fy": 510, "cx": 320, "cy": 240}
    for one in (K, K.tolist(), mapping, Intrinsics(**mapping), 2 * K, torch.from_numpy(K)):
        x = Problem.relative_pose(a, b, intrinsics=one)
        np.testing.assert_allclose(x.camera(0).matrix, K)
        assert x.camera(0) == x.camera(1)
    each = Problem.relative_pose(a, b, intrinsics=[K, {**mapping, "fx": 600}])
    assert (each.camera(0).fx, each.camera(1).fx) == (500, 600)
    stacked = Problem.relative_pose(a, b, intrinsics=np.stack([K, K]))
    assert stacked.camera(1).fy == 510
    only_second = Problem.relative_pose(a, b, intrinsics=[None, K])
    assert only_second.camera(0) is None and only_second.camera(1).source == "given"


def test_as_many_intrinsics_as_photos_or_one_are_needed():
    with pytest.raises(ProblemError, match="3 intrinsics for 2 pictures"):
        Problem.relative_pose(photo(0), photo(1), intrinsics=[K, K, K])


def test_the_stated_default_camera_sees_60_degrees_across_the_longer_side():
    camera = Intrinsics.default(400, 300)
    assert camera.source == "default" and (camera.cx, camera.cy) == (200, 150)
    assert np.degrees(2 * np.arctan(200 / camera.fx)) == pytest.approx(60)
    assert Intrinsics.default(300, 400).fx == camera.fx


# ---------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("images", [None, [None], [3], {"a": 1}, [b"png"], object()])
def test_what_is_no_picture_is_refused(images):
    with pytest.raises(ProblemError):
        Problem(task="depth", images=images)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_an_array_that_is_no_rgb_picture_is_refused_with_what_to_do(array):
    with pytest.raises(ImageError, match="give a path or a Pillow image"):
        Problem.depth(array)


def test_metadata_is_plain_data():
    x = Problem(task="depth", metadata={"room": 7, "truth": {"pose": [1, 2, 3]}})
    assert x.metadata["truth"]["pose"] == [1, 2, 3]
    for metadata in ({"f": print}, {"a": np.zeros(3)}, {"big": 2**70}, [1], "text"):
        with pytest.raises(ProblemError, match="metadata"):
            Problem(task="depth", metadata=metadata)


def test_metadata_that_its_maker_changes_afterwards_stays_as_it_was_given():
    shared, problems = {"room": {"number": 0}}, []
    for number in range(3):
        shared["room"]["number"] = number
        problems.append(Problem(task="depth", metadata=shared))
    assert [x.metadata["room"]["number"] for x in problems] == [0, 1, 2]
    assert len({x.identity for x in problems}) == 3


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "a"])
def test_a_seed_is_an_integer_of_64_bits(seed):
    with pytest.raises(ProblemError):
        Problem(task="depth", seed=seed)


def test_a_problem_cannot_be_changed():
    x = Problem.depth(photo())
    with pytest.raises((ValueError, TypeError), match="frozen"):
        x.question = "another"


# ------------------------------------------------------------------------------------------------ digests


VARIED = {
    "task": ("depth", "pose"),
    "images": ((photo(0),), (photo(1),)),
    "question": ("a?", "b?"),
    "prompt": ("a", "b"),
    "choices": (("a", "b"), ("b", "a")),
    "intrinsics": (K, K + np.diag([1.0, 0, 0])),
    "pose": (CameraPose((1, 0, 0), (0, 0, 0)), CameraPose((0, 1, 0), (0, 0, 0))),
    "look": (("left",), ("right",)),
    "seed": (1, 2),
    "metadata": ({"a": 1}, {"a": 2}),
}


def varied(field=None):
    fields = {name: pair[name == field] for name, pair in VARIED.items()}
    return Problem(**fields)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_has_a_digest_of_its_own_that_changes_with_it_alone(field):
    x, y, other = varied(), varied(), varied(field)
    assert x.digest(field) == y.digest(field) != other.digest(field)
    assert x.identity == y.identity != other.identity
    for another in set(FIELDS) - {field}:
        assert x.digest(another) == other.digest(another)


def test_every_field_is_varied_above():
    assert set(VARIED) == set(FIELDS)


def test_where_a_picture_lay_does_not_change_its_digest_but_its_shape_and_camera_do():
    pixels = photo(0, 4, 6)
    base = Problem.depth(Image(pixels)).digest("images")
    assert Problem.depth(Image(pixels.copy(), source="elsewhere.png")).digest("images") == base
    assert Problem.depth(Image(pixels.reshape(6, 4, 3))).digest("images") != base
    assert Problem.depth(Image(pixels, focal_px=500.0)).digest("images") != base
    assert Problem.depth(Image(pixels, np.ones((4, 6), bool))).digest("images") != base
    assert Problem.depth(Image(pixels[:, ::-1])).digest("images") != base, "a view is read through"


def test_two_fields_with_the_same_content_are_not_confused():
    assert Problem(task="t", question="a").identity != Problem(task="t", prompt="a").identity
    assert Problem(task="t", look=("a",)).identity != Problem(task="t", choices=("a",)).identity


def test_saying_a_default_is_the_same_as_leaving_it_out():
    plain = Problem(task="t")
    for said in ({"seed": 0}, {"metadata": {}}, {"images": ()}, {"question": None}, {"look": ()}):
        assert Problem(task="t", **said).identity == plain.identity, said


def test_a_copy_with_another_question_has_digests_of_its_own_and_is_checked():
    x = Problem.spatial(photo(), question="Where is the cone?")
    before = x.identity, x.digest("question")
    y = x.model_copy(update={"question": "Where is the cube?"})
    assert y.question == "Where is the cube?" and y.images == x.images
    assert y.digest("question") != x.digest("question") and y.identity != x.identity
    assert (x.identity, x.digest("question")) == before
    with pytest.raises(ProblemError, match="is empty"):
        x.model_copy(update={"question": " "})


def test_a_field_that_says_absent_is_not_one_that_is():
    assert Problem(task="t").identity != Problem(task="t", question="absent").identity
