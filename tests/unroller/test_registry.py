"""Finding plug-ins by name: near names, broken ones, and folders in the way."""

import subprocess
import sys
import textwrap

import pytest

from unroller import Executor, Problem, Text, decoder
from unroller.faults import MissingCapability, PluginError, UnknownName
from unroller.registry import GROUPS, load, load_all, load_path, near, registered


@decoder(task="words", writes=Text)
def words(view):
    return Text("nothing")


def python(folder, code):
    """Run a script that lies in `folder`, as a user would; what it printed."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder, timeout=60)
    return done.stdout.strip() + done.stderr.strip()


@pytest.mark.parametrize("group", ["values", "primitives", "decoders", "policies", "planners", "backends"])
def test_everything_built_in_is_registered_like_a_strangers_plug_in_and_can_be_imported(group):
    found, broken = load_all(group)
    assert found and not broken
    assert set(found) == set(registered(group)) and group in GROUPS


def test_an_unknown_name_is_told_the_nearest_one_and_all_there_are():
    with pytest.raises(UnknownName) as raised:
        load("policies", "shedule")
    message = str(raised.value)
    assert "no policy is called 'shedule'" in message and "Did you mean 'schedule'?" in message
    assert "direct, " in message


def test_a_name_near_to_nothing_is_told_what_there_is():
    assert near("xyzzy", ["b", "a"]) == " Known: a, b."
    assert near("xyzzy", []) == " Known: none."


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "clasical"}, "no backend is called 'clasical'. Did you mean 'classical'"),
        ({"policy": "rndom"}, "no policy is called 'rndom'. Did you mean 'random'"),
        ({"planner": "grph"}, "no planner is called 'grph'. Did you mean 'graph'"),
        ({"primitives": ["depth_estimat"]}, "Did you mean 'depth_estimate'"),
        ({"decoders": ["poze"]}, "no decoder is called 'poze'"),
        ({"probes": ["answer_entropi"]}, "Did you mean 'answer_entropy'"),
    ],
)
def test_every_name_an_executor_is_given_is_checked_when_it_is_made(options, says):
    with pytest.raises(UnknownName, match=says):
        Executor(**{"backend": [], "policy": [], "decoders": [words]} | options)


def test_a_task_without_a_decoder_is_told_the_tasks_there_are():
    ex = Executor(backend=[], primitives=[], decoders=[words], policy=[])
    with pytest.raises(UnknownName, match="no decoder for the task 'wards'. Did you mean 'words'"):
        ex.run(Problem(task="wards"))


def test_what_is_registered_but_no_decoder_or_backend_is_refused():
    with pytest.raises(PluginError, match="is no decoder"):
        Executor(backend=[], decoders=[lambda view: view])
    with pytest.raises(PluginError, match="it has no name, fingerprint, provides"):
        Executor(backend=object())
    with pytest.raises(PluginError, match="is no primitive"):
        Executor(backend=[], primitives=[len], decoders=[words], policy=[])


def test_a_capability_that_no_chosen_backend_provides_names_who_could():
    from unroller.capabilities import PoseEstimator, TextGenerator
    from unroller.declare import primitive

    pose = primitive(reads=(), writes=Text, needs=PoseEstimator, name="pose_words")(lambda v, b: Text(""))
    think = primitive(reads=(), writes=Text, needs=TextGenerator, name="think")(lambda v, b: Text(""))
    for p, says in [
        (pose, r"needs PoseEstimator, which no chosen backend provides \(none\). These do: classical"),
        (think, "needs TextGenerator"),
    ]:
        with pytest.raises(MissingCapability, match=says):
            Executor(backend=[], primitives=[p], decoders=[words], policy=[p.name])
        run = Executor(
            backend=[], primitives=[p], decoders=[words], policy=lambda s, p=p: [] if s.step else [p.name]
        ).run(Problem(task="words"))
        assert run.faults[0].phase == "refused" and run.output == Text("nothing")


def test_objects_can_be_loaded_by_path_and_a_path_that_is_none_says_so():
    assert load_path("unroller.values:Text") is Text
    for path, says in [
        ("unroller.values", "write package.module:object"),
        ("no_such_package.module:thing", "cannot be imported: ModuleNotFoundError"),
        ("unroller.values:Nothing", "cannot be imported: AttributeError"),
    ]:
        with pytest.raises(PluginError, match=says):
            load_path(path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("thing = 1", "AttributeError"),
    ],
)
def test_a_plug_in_that_fails_to_import_is_named_and_takes_nothing_else_down(tmp_path, source, says):
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unroller.primitives]\nstrange = stranger:strange\n")
    (tmp_path / "stranger.py").write_text(source)
    out = python(
        tmp_path,
        """
        from unroller import Executor, Text, decoder
        words = decoder(task="words", writes=Text, name="words")(lambda view: Text("fine"))
        ex = Executor(backend=[], decoders=[words], policy=[])
        assert "describe_motion" in ex.actions and "strange" not in ex.actions
        print("broken:", ex.broken["strange"])
        try:
            Executor(backend=[], primitives=["strange"], decoders=[words], policy=[])
        except Exception as error:
            print(type(error).__name__)
        """,
    )
    assert "broken: the plug-in 'strange' of unroller.primitives (stranger:strange) cannot be" in out
    assert says in out and out.endswith("PluginError")


@pytest.mark.parametrize("room", ["policies", "primitives"])
@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_folder_named_like_one_of_our_rooms_beside_a_script_is_reported_in_one_sentence(
    tmp_path, room, way
):
    if way == "folder":
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("mine = 1\n")
        stranger = tmp_path / room
    else:
        stranger = tmp_path / f"{room}.py"
        stranger.write_text("mine = 1\n")
    out = python(
        tmp_path,
        """
        from unroller import Executor
        from unroller.faults import PluginError
        try:
            Executor(backend="classical")
        except PluginError as error:
            print(error)
        """,
    )
    assert out.startswith(f"{stranger} is in the way of unroller's own package {room!r}: rename it")
    assert "\n" not in out


@pytest.mark.parametrize("room", ["policies", "primitives", "planners"])
def test_a_folder_without_python_in_it_is_not_in_the_way(tmp_path, room):
    (tmp_path / room).mkdir()
    (tmp_path / room / "notes.txt").write_text("mine")
    assert "camera_pose_estimate" in python(
        tmp_path, 'from unroller import Executor; print(list(Executor(backend="classical").actions))'
    )


def test_a_folder_called_primitives_is_also_reported_where_all_backends_are_taken(tmp_path):
    (tmp_path / "primitives").mkdir()
    (tmp_path / "primitives" / "__init__.py").write_text("mine = 1\n")
    out = python(
        tmp_path,
        """
        from unroller import Executor, Problem
        try:
            Executor().run(Problem(task="pose"))
        except Exception as error:
            print(error)
        """,
    )
    assert "is in the way of unroller's own package 'primitives'" in out
