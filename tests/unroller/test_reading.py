"""How many tokens models ran over: what backends count, each run's share of it."""

import pytest

from unroller import Executor, Problem, Text, decoder, primitive
from unroller.capabilities import Generation, Prompt, TextGenerator
from unroller.cost import Reading
from unroller.rendering import TextSegment


class Counting:
    """Writes a word a sample, and counts ten tokens read and one written for each."""

    name = "counting"
    fingerprint = "1"
    max_batch = 4
    provides = (TextGenerator,)

    def __init__(self):
        self.reading = Reading()

    def generate_text(self, prompts, *, max_tokens, temperature, seeds):
        self.reading += Reading(prefilled=10 * len(prompts), written=len(prompts))
        return [Generation("hm", 1) for _ in prompts]


@primitive(reads=("question",), writes=Text, needs=TextGenerator, batched=True)
def mutter(views, generator):
    prompts = [Prompt((TextSegment(view.question),)) for view in views]
    return [
        Text(said.text)
        for said in generator.generate_text(prompts, max_tokens=1, temperature=0, seeds=[0] * len(views))
    ]


@decoder(task="last", writes=Text, reads=(Text,))
def last(view):
    return view.latest(Text) or Text("nothing")


def executor(backend):
    return Executor(backend=[backend], primitives=[mutter], decoders=[last], policy=["mutter"])


def test_every_run_says_what_was_read_for_it():
    backend = Counting()
    problems = [Problem(task="last", question=str(i)) for i in range(6)]
    runs = list(executor(backend).map(problems))
    assert [run.spent.reading for run in runs] == [Reading(10, 0, 1)] * 6
    assert sum((run.spent.reading for run in runs), Reading()) == backend.reading
    assert "Read: 10 tokens prefilled, 0 reused, 1 written." in runs[0].explain()


def test_what_the_memo_knew_was_not_read():
    ex = executor(Counting())
    x = Problem(task="last", question="again")
    assert ex.run(x).spent.reading == Reading(10, 0, 1)
    assert ex.run(x).spent.reading is None


def test_a_backend_that_counts_nothing_is_not_asked():
    class Silent(Counting):
        def __init__(self):
            pass

        def generate_text(self, prompts, **how):
            return [Generation("hm", 1) for _ in prompts]

    run = executor(Silent()).run(Problem(task="last", question="?"))
    assert run.spent.reading is None and "Read:" not in run.explain()


def test_a_count_that_breaks_does_not_break_the_call():
    class Broken(Counting):
        def __init__(self):
            pass

        @property
        def reading(self):
            raise OSError("no weights")

        def generate_text(self, prompts, **how):
            return [Generation("hm", 1) for _ in prompts]

    run = executor(Broken()).run(Problem(task="last", question="?"))
    assert run.output.text == "hm" and run.spent.reading == Reading()


@pytest.mark.parametrize("samples", [1, 4])
def test_a_share(samples):
    assert Reading(12, 4, 8).since(Reading(4, 4, 0), samples) == Reading(8 / samples, 0, 8 / samples)
