"""Finding out what a thing is, and how the findings read."""

import json
import types

from unroller import Text, Value, primitive
from unroller.check import check, check_path
from unroller.declare import Primitive


@primitive(reads=("question",), writes=Text)
def echo(view):
    """Say the question again."""
    return Text(str(view.question))


def the_failure(findings):
    (line,) = findings.failures
    return f"{line.found} → {line.mend}"


def test_a_report_reads_from_top_to_bottom():
    @primitive(reads=("images",), writes=Text)
    def talk(view):
        """Say the question."""
        return Text(f"{len(view.images)} {view.question}")

    first, *lines = str(check(talk)).splitlines()
    assert first == "primitive talk: 1 thing to mend"
    assert "  fail  reads             it reads x.question without declaring it" in lines
    assert '                          → add "question" to its reads' in lines


def test_as_plain_data():
    data = json.loads(json.dumps(check(echo).to_dict()))
    assert data["of"] == "primitive echo" and data["ok"]
    assert data["lines"][0] == {
        "level": "ok",
        "subject": "declaration",
        "found": "reads question; writes Text",
        "mend": "",
    }


def test_a_function_that_was_not_decorated():
    def motion(view):
        return Text("moved")

    def think(views, generator):
        return []

    def until_sure(state):
        return None

    assert "put @primitive(reads=…, writes=…) above it" in the_failure(check(motion))
    assert "needs=…, batched=True" in the_failure(check(think))
    assert "put @policy above it" in the_failure(check(until_sure))


def test_a_class_where_an_instance_is_needed():
    class Mine(Primitive):
        pass

    assert "Mine is a class where an instance is needed" in the_failure(check(Mine))


def test_a_class_that_cannot_be_made():
    class Needy:
        def __init__(self, model):
            self.model = model

        def decide(self, states):
            return []

    found = the_failure(check(Needy))
    assert "Needy() cannot be made without arguments" in found and "register an instance" in found


def test_a_backend_without_a_declaration():
    class Half:
        def estimate_pose(self, pairs, *, seeds):
            return []

    assert "name, fingerprint, max_batch and provides" in the_failure(check(Half()))


def test_nothing_of_these():
    found = the_failure(check({"a": 1}))
    assert "a dict is nothing that unroller knows" in found and "a policy has decide(states)" in found


def test_a_module():
    module = types.ModuleType("mine")
    vars(module).update(echo=echo, Note=type("Note", (Value,), {}))
    assert "check one of: mine:echo, mine:Note" in the_failure(check(module))


def test_by_path(tmp_path, monkeypatch):
    (tmp_path / "my_plugin.py").write_text(
        "from unroller import Text, primitive\n"
        "@primitive(reads=('question',), writes=Text)\n"
        "def echo(view):\n"
        "    'Say it again.'\n"
        "    return Text(str(view.question))\n"
    )
    (tmp_path / "my_broken_plugin.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check_path("my_plugin:echo").ok
    assert "cannot be imported" in the_failure(check_path("my_plugin:ehco"))
    assert "a_library_that_is_not_there" in the_failure(check_path("my_broken_plugin:thing"))
    assert "write package.module:object" in the_failure(check_path("my_plugin"))


def test_by_registered_name():
    assert check_path("CameraPose").ok
    assert "Did you mean 'CameraPose'?" in the_failure(check_path("CameraPoes"))


def test_a_backend_by_name_that_does_not_exist():
    assert "no backend is called 'nonesuch'" in str(check(echo, backends=["nonesuch"]))
