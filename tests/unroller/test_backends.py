"""Backends as they are named: what a word says, and who is asked to put words together."""

import pytest

from unroller import Executor, Text, decoder, primitive
from unroller.backends import backends_of, is_object, names_code, parsed, says_more
from unroller.capabilities import Generation, Prompt, TextGenerator
from unroller.check import check
from unroller.cost import Reading
from unroller.faults import PluginError, UnknownName
from unroller.problem import Problem
from unroller.registry import load, registered


def test_how_words_are_read():
    asked = parsed("text=hf:/a=b/c:d?device=cuda:1&max_batch=4&dtype=bfloat16&compile=true")
    assert (asked.capability, asked.backend, asked.path) == ("text", "hf", "/a=b/c:d")
    assert asked.settings == {"device": "cuda:1", "max_batch": 4, "dtype": "bfloat16", "compile": True}
    assert (parsed("hf:org/model").capability, parsed("hf:org/model").path) == (None, "org/model")
    assert (parsed("pose=mine:Model").backend, parsed("pose=mine:Model").path) == ("mine:Model", None)
    assert (parsed("a/mine.py:Model?n=1").backend, parsed("a/mine.py:Model?n=1").settings) == (
        "a/mine.py:Model",
        {"n": 1},
    )


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("text=", "lacks a backend"),
        ("text=hf:", "lacks a path after the colon"),
        (":/models/x", "lacks a backend"),
        ("hf:x?device", "after the question mark"),
        ("hf:what?/x", "goes into a TOML file"),
        ("hf:x?a=1&a=2", "gives a twice"),
    ],
)
def test_what_is_written_in_another_way_is_told_how_to_write_it(word, says):
    with pytest.raises(PluginError, match=says):
        parsed(word)


def test_plain_names_and_objects_of_modules_are_left_as_they_were():
    assert backends_of(["classical", "nano"]) == [load("backends", "classical"), load("backends", "nano")]
    thing = object()
    assert backends_of([thing]) == [thing]
    for word in ("classical", "mine:Model", "a/b.py:model", "my.package:model.inner", "clasical"):
        assert not says_more(word), word
    for word in ("hf:x", "hf:/a/b", "text=nano", "x.toml", "hf?device=cpu", "hff:/x", "hf:model"):
        assert says_more(word) and not is_object(word), word
    with pytest.raises(UnknownName, match="Did you mean 'classical'"):
        backends_of(["clasical"])


def test_a_class_of_a_module_may_be_made_from_a_path():
    for word, name, path in (
        ("mine:Model:/models/x", "mine:Model", "/models/x"),
        ("depth=a.b:Model:C:/x?device=cpu", "a.b:Model", "C:/x"),
        ("hf:/models/x:y", "hf", "/models/x:y"),
        ("hf:models:x", "hf", "models:x"),
    ):
        asked = parsed(word)
        assert (asked.backend, asked.path) == (name, path), word
        assert says_more(word)
    with pytest.raises(PluginError, match="lacks a path after the colon"):
        parsed("mine:Model:")


def test_what_may_choose_code_is_not_taken_up_again_unasked():
    code = ("mine:Model", "pose=mine:Model", "pose=mine:Model:/models/x", "setup.toml", "text=")
    for word in (*code, "hf:x?allow_pickle=true", "hf:x?y"):
        assert names_code(word), word
    for word in ("classical", "hf:x", "text=hf:/models/x?device=cpu", "pose=classical"):
        assert not names_code(word), word


def test_without_anybody_who_is_put_together_from_words_that_is_said(monkeypatch):
    monkeypatch.setattr("unroller.backends.load_all", lambda group: ({}, {}))
    with pytest.raises(PluginError, match="'text=hf:x' says more than a name, and no installed backend"):
        Executor(backend=["text=hf:x"])


class Echo:
    """It repeats how often it was asked."""

    provides = (TextGenerator,)

    def __init__(self, name, max_batch=2):
        self.name = self.fingerprint = name
        self.max_batch = max_batch
        self.batches = []
        self.reading = Reading()

    def generate_text(self, prompts, *, max_tokens, temperature, seeds):
        self.batches.append(len(prompts))
        self.reading = self.reading + Reading(prefilled=10 * len(prompts))
        return [Generation(self.name, 1)] * len(prompts)


class House:
    """It hands out who lives in it."""

    name, fingerprint, max_batch = "house", "house", 1
    provides = (TextGenerator,)

    def __init__(self, tenant):
        self.tenant = tenant

    def provider_of(self, capability):
        assert capability is TextGenerator
        return self.tenant


@primitive(reads=("question",), writes=Text, needs=TextGenerator, batched=True)
def echo(views, generator):
    asked = [Prompt(()) for _ in views]
    return [
        Text(found.text)
        for found in generator.generate_text(asked, max_tokens=1, temperature=0, seeds=[0] * len(views))
    ]


def test_of_one_that_hands_out_others_theirs_is_the_batch_the_reading_and_the_fingerprint():
    @decoder(task="nothing", writes=Text)
    def nothing(view):
        return Text("nothing")

    tenant = Echo("tenant")
    options = {"policy": ["echo"], "primitives": [echo], "decoders": [nothing]}
    executor = Executor(backend=House(tenant), **options)
    problems = [Problem(task="nothing", question=f"which of {i}") for i in range(4)]
    runs = list(executor.map(problems))
    assert tenant.batches == [2, 2], "as many as the tenant takes"
    assert [run.spent.reading.prefilled for run in runs] == [10] * 4
    ids = {entry.id for run in runs for entry in run.entries}
    alone = Executor(backend=Echo("tenant"), **options)
    assert {entry.id for run in alone.map(problems) for entry in run.entries} == ids


def test_a_primitive_is_checked_with_words():
    findings = check(echo, backends=["text=nano"])
    assert not [finding for finding in findings.failures if finding.subject == "backends"], str(findings)
    findings = check(echo, backends=["text=nobody"])
    assert any("no backend is called 'nobody'" in finding.found for finding in findings.failures)


def test_the_one_that_is_put_together_from_words_is_found_by_its_entry_point():
    able = [name for name in registered("backends") if hasattr(load("backends", name), "from_words")]
    assert able == ["composite"]
