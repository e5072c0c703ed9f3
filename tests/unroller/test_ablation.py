"""Rows of context sets by columns of problems: what is measured, how sure it is, and what is shared."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from unroller import (
    Answer,
    Call,
    Cost,
    Executor,
    Problem,
    Text,
    decoder,
    policy,
    primitive,
    registry,
)
from unroller.ablation import ablate, blank, default_rows, paired_gain, shuffled, text_only
from unroller.ablation.bootstrap import resampled_means
from unroller.ablation.rows import donors
from unroller.capabilities import TextGenerator
from unroller.faults import (
    ContractError,
    InputError,
    MissingCapability,
    PluginError,
    PolicyError,
    ProblemError,
    UnknownName,
    UnrollerError,
)
from unroller.scorers import choice

CHOICES = ("a", "b")


@pytest.fixture(autouse=True)
def scorers(monkeypatch):
    """Our scorers by name, as pyproject.toml registers them: an installation may be older than it."""
    real = registry.registered
    points = {name: EntryPoint(name, path, "unroller.scorers") for name, path in declared().items()}
    monkeypatch.setattr(registry, "registered", lambda group: points if group == "scorers" else real(group))


def declared():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    return project["project"]["entry-points"]["unroller.scorers"]


def question(number, hops=1, **metadata):
    """A problem with a number, a picture of noise, and a truth that alternates."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    truth = {"answer": CHOICES[number % 2]}
    held = {"number": number, "hops": hops, "truth": truth} | metadata
    return Problem(task="quiz", images=[pixels], question="a or b?", choices=CHOICES, metadata=held)


QUESTIONS = [question(i, hops=i % 3 + 1) for i in range(30)]


@primitive(reads=("metadata",), writes=Text, cost=Cost(model_calls=1, tokens=9, price=0.01))
def hint(view):
    """Knows the answer to seven questions in ten."""
    true = view.metadata["truth"]["answer"]
    return Text(true if view.metadata["number"] % 10 < 7 else "ab".replace(true, ""))


@primitive(reads=("metadata", Text), writes=Text, cost=Cost(model_calls=1))
def oracle(view):
    return Text(view.metadata["truth"]["answer"])


@primitive(reads=("metadata",), writes=Text)
def stumbles(view):
    if view.metadata["number"] % 5 == 0:
        raise InputError("nothing to go by")
    return Text("hm")


@decoder(task="quiz", reads=("images", "choices", Text), writes=Answer, cost=Cost(model_calls=1))
def quiz(view):
    """The last thing that was said, if it is a choice; "a", if nothing was."""
    said = [text.text for text in view.all(Text) if text.text in view.choices]
    i = view.choices.index(said[-1]) if said else 0
    return Answer(view.choices[i], view.choices, i, (0.8, 0.2) if i == 0 else (0.2, 0.8))


def executor(*more, decoders=(quiz,), **options):
    options.setdefault("policy", [])
    return Executor(backend=[], primitives=[hint, oracle, stumbles, *more], decoders=decoders, **options)


ROWS = {"direct": [], "hint": ["hint"], "hint + oracle": ["hint", "oracle"]}


# --------------------------------------------------------------------------------------------- figures


def test_a_table_says_how_good_each_row_is_how_much_better_and_at_what_cost():
    table = ablate(executor(), QUESTIONS, ROWS)
    assert (table.rows, table.columns) == (list(ROWS), ["all"])
    direct, hinted = table.cell("direct"), table.cell("hint")
    assert (direct.n, direct.failed, direct.score.mean, direct.gain) == (30, 0, 0.5, None)
    assert hinted.score.mean == pytest.approx(0.7) and hinted.gain.mean == pytest.approx(0.2)
    assert hinted.score.low < 0.7 < hinted.score.high
    assert (direct.model_calls, direct.tokens) == (1, 0)
    assert (hinted.model_calls, hinted.tokens, hinted.price) == (2, 9, pytest.approx(0.01))
    assert table.cell("hint + oracle").score.mean == 1
    assert "hint + oracle" in str(table) and "+20.0 [" in str(table)


def test_columns_are_a_key_of_the_metadata_or_a_function():
    by_key = ablate(executor(), QUESTIONS, ROWS, column="hops")
    assert by_key.columns == ["1", "2", "3", "all"] and by_key.by == "hops"
    assert [by_key.cell("hint", c).n for c in by_key.columns] == [10, 10, 10, 30]
    numbers = {c: [x.metadata["number"] for x in QUESTIONS if str(x.metadata["hops"]) == c] for c in "123"}
    for c, of in numbers.items():
        assert by_key.cell("hint", c).score.mean == pytest.approx(np.mean([i % 10 < 7 for i in of]))
    truth = ablate(executor(), QUESTIONS, ROWS, column="truth.answer")
    assert truth.columns == ["a", "b", "all"] and truth.cell("direct", "a").score.mean == 1
    sizes = ablate(executor(), QUESTIONS, ROWS, column=lambda x: 10 ** x.metadata["hops"] / 10)
    assert sizes.columns == ["1", "10", "100", "all"], "numbers are in order of size"


def test_metadata_called_column_makes_columns_unasked():
    problems = [question(i, column="near" if i < 4 else "far") for i in range(10)]
    assert ablate(executor(), problems, ROWS).columns == ["far", "near", "all"]


def test_every_policy_can_be_a_row():
    @policy
    def twice(state):
        return "hint" if state.step < 1 else "oracle" if state.step < 2 else ()

    table = ablate(executor(), QUESTIONS, {"direct": "hint", "draws": [Call("hint", draw=1)], "own": twice})
    assert table.cell("own").score.mean == 1
    assert table.cell("draws").gain.mean == 0


def test_rows_can_be_a_list_of_names_and_pairs():
    table = ablate(executor(), QUESTIONS, ["direct", "hint", ("both", ["hint", "oracle"])])
    assert table.rows == ["direct", "hint", "both"]
    assert table.cell("direct").model_calls == 1


# --------------------------------------------------------------------------------------------- sharing


def test_what_rows_share_is_computed_once():
    made = []

    @primitive(reads=("metadata",), writes=Text)
    def first(view):
        made.append(("first", view.metadata["number"]))
        return Text("a")

    @primitive(reads=(Text, "metadata"), writes=Text)
    def second(view):
        made.append(("second", view.metadata["number"]))
        return Text("b")

    rows = {
        "direct": [],
        "first": ["first"],
        "both": ["first", "second"],
        "twice": ["first", ["second", "oracle"]],
        "shuffled": shuffled("first", "second"),
    }
    for memo in ("memory", None):
        made.clear()
        table = ablate(executor(first, second, memo=memo), QUESTIONS, rows)
        assert len(made) == len(set(made)) == 60
        # Each row decodes once a problem, and two of them call something that no row before them did.
        assert table.computed == 30 * len(rows) + 60 + 30


def test_a_second_run_with_a_memo_on_disk_repeats_nothing(tmp_path):
    first = ablate(executor(memo=tmp_path / "memo"), QUESTIONS, ROWS)
    second = ablate(executor(memo=tmp_path / "memo"), QUESTIONS, ROWS)
    assert first.computed > 0 and second.computed == 0
    assert [c.gain for c in second.cells] == [c.gain for c in first.cells]
    assert [c.model_calls for c in second.cells] == [c.model_calls for c in first.cells]
    assert second.cell("hint").seconds is None, "nothing was computed, so nothing is known of what it takes"


def test_seconds_count_for_every_row_that_uses_a_call_whichever_comes_first():
    @primitive(reads=("metadata",), writes=Text)
    def slow(view):
        time.sleep(0.02)
        return Text("a")

    forth = {"direct": [], "slow": ["slow"], "both": ["slow", "oracle"]}
    for rows in (forth, dict(reversed(forth.items()))):
        table = ablate(executor(slow), QUESTIONS[:5], rows)
        slow_ones = table.cell("slow").seconds, table.cell("both").seconds
        assert min(slow_ones) >= 0.02 and table.cell("direct").seconds < min(slow_ones)


def test_progress_is_told_problem_by_problem():
    heard = []
    rows = {"direct": [], "hint": ["hint"], "shuffled": shuffled("hint")}
    ablate(executor(), QUESTIONS, rows, tell=lambda *told: heard.append(told))
    assert [done for _, done, _ in heard] == list(range(1, 121)), "shuffling goes over the problems twice"
    assert heard[0] == ("direct", 1, 120) and heard[-1] == ("shuffled", 120, 120)


# -------------------------------------------------------------------------------------------- controls


@primitive(reads=("metadata",), writes=Text)
def signature(view):
    return Text(f"of {view.metadata['number']}")


@decoder(task="quiz", reads=("metadata", Text), writes=Answer)
def reader(view):
    return Answer(" ".join(text.text for text in view.all(Text)))


def test_a_shuffled_row_decodes_from_the_context_of_another_problem_of_its_column():
    read = {}

    def score(problem, output):
        read[problem.metadata["number"]] = int(output.text.removeprefix("of "))
        return 1.0

    def whose(seed):
        read.clear()
        rows = {"shuffled": shuffled("signature")}
        table = ablate(
            executor(signature, decoders=[reader]), QUESTIONS, rows, scorer=score, column="hops", seed=seed
        )
        assert table.notes == [] and table.missing == {}
        return dict(read)

    got = whose(0)
    assert sorted(got) == sorted(got.values()) == list(range(30)), "every context is used once"
    assert all(mine != other for mine, other in got.items())
    assert all(mine % 3 == other % 3 for mine, other in got.items()), "of the same number of hops"
    assert whose(0) == got and whose(1) != got


def test_shuffled_contexts_lose_what_they_said_and_cost_what_they_cost():
    table = ablate(executor(), QUESTIONS, ROWS | {"shuffled": shuffled("hint", "oracle")}, column="hops")
    own, other = table.cell("hint + oracle"), table.cell("shuffled")
    assert other.score.mean < 0.8 < own.score.mean
    assert (own.model_calls, own.tokens) == (other.model_calls, other.tokens) == (3, 9)


def test_a_problem_alone_in_its_column_gets_the_context_of_another_column_and_the_table_says_so():
    problems = [question(i, hops=h) for i, h in enumerate((1, 1, 2))]
    table = ablate(executor(), problems, {"direct": [], "s": shuffled("hint")}, column="hops")
    assert "1 of the problems had no other one in their column" in table.notes[0]
    table = ablate(executor(), problems[:1], {"direct": [], "s": shuffled("hint")})
    assert table.missing == {"s": "there is no other problem to take a context from"}


@pytest.mark.parametrize("sizes", [(2,), (5, 2), (4, 1), (1, 1, 1), (2, 1, 1), (100, 3, 1)])
def test_nobody_ever_gets_their_own_context(sizes):
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    for seed in range(20):
        found, alone = donors(groups, seed)
        assert alone == sizes.count(1)
        assert all(0 <= j < len(groups) and j != i for i, j in enumerate(found))
        assert all(groups[i] == groups[j] for i, j in enumerate(found) if sizes[groups[i]] > 1)


def seeing(applies=None):
    """A decoder that says what it sees of the picture: its mean, and how many there are."""

    @decoder(task="quiz", reads=("images", Text), writes=Answer, applies=applies)
    def see(view):
        sizes = [image.size for image in view.images]
        means = [int(image.pixels.mean()) for image in view.images]
        spread = [float(image.pixels.std()) for image in view.images]
        return Answer(repr((sizes, means, spread)))

    return see


def test_blank_pictures_are_mid_grey_and_of_the_same_size():
    seen = []
    score = lambda problem, output: seen.append(output.text) or 1.0  # noqa: E731
    table = ablate(executor(decoders=[seeing()]), QUESTIONS[:3], {"blank": blank("hint")}, scorer=score)
    assert seen == ["([(8, 6)], [128], [0.0])"] * 3
    assert table.cell("blank").model_calls == 1, "the calls of the row are made, too"
    assert QUESTIONS[0].images[0].pixels.std() > 1, "the problem itself is as it was"


def test_text_only_takes_the_pictures_away_where_the_decoder_allows_it():
    seen = []
    score = lambda problem, output: seen.append(output.text) or float(len(problem.images))  # noqa: E731
    camera = {"fx": 5, "fy": 5, "cx": 4, "cy": 3}
    problems = [x.model_copy(update={"intrinsics": [camera]}) for x in QUESTIONS[:3]]
    table = ablate(executor(decoders=[seeing()]), problems, {"t": text_only()}, scorer=score)
    assert seen == ["([], [], [])"] * 3
    assert table.cell("t").score.mean == 1, "the scorer sees the problem as it was"


def test_a_control_that_does_not_apply_is_reported_with_its_reason():
    needs = seeing(lambda problem: None if problem.images else "needs a photo")
    rows = {"direct": [], "text": text_only(), "blank": blank()}
    table = ablate(executor(decoders=[needs]), QUESTIONS[:3], rows, scorer=lambda *_: 0.5)
    assert table.missing == {"text": "needs a photo (so for 3 problems)"}
    assert table.cell("blank").score.mean == 0.5
    with pytest.raises(UnrollerError, match="needs a photo"):
        table.cell("text")

    @decoder(task="quiz", reads=("images",), writes=Answer)
    def looks(view):
        return Answer(str(view.images[0].size))

    table = ablate(executor(decoders=[looks]), QUESTIONS[:3], rows, scorer=lambda *_: 0.5)
    assert "there is no output: " in table.missing["text"] and "index out of range" in table.missing["text"]

    blind = [Problem(task="quiz", choices=CHOICES, metadata=x.metadata) for x in QUESTIONS[:3]]
    table = ablate(executor(), blind, rows)
    assert set(table.missing) == {"text", "blank"} and "no pictures" in table.missing["blank"]


# --------------------------------------------------------------------------------------------- failing


def test_a_problem_in_which_a_call_fails_counts_as_wrong_and_is_counted():
    table = ablate(executor(), QUESTIONS, {"direct": [], "both": ["oracle", "stumbles"]})
    cell = table.cell("both")
    assert (cell.n, cell.failed, cell.score.mean) == (30, 6, 0.8)
    (failing,) = table.failing
    assert (failing.row, failing.count, failing.fault.message) == ("both", 6, "nothing to go by")
    table = ablate(executor(), QUESTIONS, {"direct": [], "both": ["oracle", "stumbles"]}, faults="answer")
    assert (table.cell("both").failed, table.cell("both").score.mean) == (6, 1.0)


def test_a_problem_without_an_output_is_wrong_however_faults_count():
    @decoder(task="quiz", reads=("metadata", Text), writes=Answer)
    def shaky(view):
        if view.metadata["number"] < 3:
            raise InputError("no idea")
        return Answer("a", CHOICES, 0)

    for faults in ("wrong", "answer"):
        table = ablate(executor(decoders=[shaky]), QUESTIONS[:10], {"direct": []}, faults=faults)
        assert (table.cell("direct").failed, table.cell("direct").score.mean) == (3, 0.3)


def test_a_context_that_failed_counts_for_the_problem_that_gets_it():
    table = ablate(executor(), QUESTIONS, {"direct": [], "s": shuffled("oracle", "stumbles")})
    assert table.cell("s").failed == 6


# ----------------------------------------------------------------------------------------- how sure


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40)
    draws = np.random.default_rng(4)
    means = sorted(np.mean((a - b)[draws.integers(0, 40, 40)]) for _ in range(4000))
    found = paired_gain(a, b)
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx((means[100], means[3899]), abs=0.01)


def test_the_draws_are_exactly_those_of_one_generator_chunk_by_chunk(monkeypatch):
    scores = np.random.default_rng(0).random((3, 11))
    rng = np.random.default_rng(7)
    naive = np.array([scores[:, rng.integers(0, 11, 11)].mean(axis=1) for _ in range(50)])
    assert resampled_means(scores, 50, seed=7) == pytest.approx(naive)
    monkeypatch.setattr("unroller.ablation.bootstrap._AT_ONCE", 40)  # three draws at a time
    assert resampled_means(scores, 50, seed=7) == pytest.approx(naive)


def test_nineteen_in_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):  # a row that is right where the other is, and 20 % of the other times
        b = rng.random(150) < 0.5
        a = b | (rng.random(150) < 0.2)
        found = paired_gain(a, b, resamples=1000, seed=int(rng.integers(1 << 30)))
        held += found.low <= 0.1 <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_rows_are_compared_problem_by_problem():
    rng = np.random.default_rng(6)
    b = rng.random(50) * 0.8
    found = paired_gain(b + 0.1, b)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1)), "what is hard cancels"
    assert paired_gain(rng.permutation(b) + 0.1, b).low < 0.05
    assert math.isnan(paired_gain([1.0], [0.0]).low), "one problem says nothing of how sure it is"


def test_any_two_rows_can_be_compared_in_any_column():
    pairs = [("hint + oracle", "hint")]
    table = ablate(executor(), QUESTIONS, ROWS, column="hops", compare=pairs, resamples=2000)
    assert [(g.row, g.over, g.column) for g in table.compared] == [
        (*pairs[0], column) for column in ("1", "2", "3", "all")
    ]
    for gain in table.compared:
        own = [i for i, x in enumerate(QUESTIONS) if gain.column in ("all", str(x.metadata["hops"]))]
        alone = paired_gain(np.ones(len(own)), [i % 10 < 7 for i in own], 2000)
        for found in (gain.gain, table.gain(gain.row, gain.over, gain.column)):
            assert (found.mean, found.low, found.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert table.gain("hint").mean == pytest.approx(0.2)


def test_intervals_depend_on_the_seed_alone():
    first, again, other = (ablate(executor(), QUESTIONS, ROWS, seed=s).gain("hint") for s in (0, 0, 9))
    assert first == again and first != other


def test_means_of_draws_spread_by_the_root_of_how_many_problems_there_are():
    scores = np.random.default_rng(0).random((8, 3000))
    means = resampled_means(scores)
    assert means.shape == (10_000, 8)
    assert means.std(axis=0) == pytest.approx(scores.std(axis=1) / np.sqrt(3000), rel=0.05)


# -------------------------------------------------------------------------------------- contributions


def test_contributions_are_averaged_by_action():
    table = ablate(executor(), QUESTIONS, ROWS, contributions="hint + oracle", faults="answer")
    shares = table.shares
    assert (shares.row, shares.n, shares.left_out) == ("hint + oracle", 30, 0)
    assert (shares.empty, shares.full) == (0.5, 1.0)
    by_action = {share.action: share for share in shares.actions}
    assert by_action["oracle"].leave_one_out == pytest.approx(0.3)
    assert by_action["hint"].leave_one_out == 0
    assert sum(share.shapley for share in shares.actions) == pytest.approx(0.5)
    assert ablate(executor(), QUESTIONS, ROWS).shares is None


def test_contributions_of_long_contexts_are_leave_one_out_only():
    many = [Call("stumbles", draw=i) for i in range(6)]
    table = ablate(executor(), [question(1)] * 2, {"many": ["oracle", *many]}, contributions="many")
    assert [share.action for share in table.shares.actions] == ["oracle", "stumbles"]
    assert [share.n for share in table.shares.actions] == [2, 12]
    assert all(share.shapley is None for share in table.shares.actions)


# --------------------------------------------------------------------------------------- default rows


def test_by_default_each_call_of_the_policy_is_a_row_and_all_of_them():
    ex = executor(policy=["hint", "oracle"])
    assert list(default_rows(ex, QUESTIONS[0])) == ["direct", "hint", "oracle", "hint + oracle"]
    assert ablate(ex, QUESTIONS).cell("hint + oracle").score.mean == 1
    assert list(default_rows(executor(policy=["hint"]), QUESTIONS[0])) == ["direct", "hint"]
    assert list(default_rows(executor(), QUESTIONS[0])) == ["direct"]


def test_a_call_of_the_policy_that_nobody_can_carry_out_is_a_row_that_says_so():
    @primitive(reads=("question",), writes=Text, needs=TextGenerator)
    def thinks(view, model):
        raise AssertionError

    @policy
    def hopeful(state):
        return ["hint", "thinks", "unheard_of", "oracle", ()][state.step]

    table = ablate(executor(thinks, policy=hopeful), QUESTIONS)
    assert table.rows == ["direct", "hint", "thinks", "unheard_of", "oracle", "hint + oracle"]
    assert "TextGenerator" in table.missing["thinks"]
    with pytest.raises(MissingCapability, match="TextGenerator"):
        ablate(executor(thinks), QUESTIONS, {"direct": [], "thinks": ["thinks"]})


# --------------------------------------------------------------------------------------------- output


def test_a_table_is_data_and_files(tmp_path):
    table = ablate(executor(), QUESTIONS, ROWS | {"t": text_only("hint")}, column="hops")
    document = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert document["cells"][0]["score"]["mean"] == table.cells[0].score.mean
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(lines) == 4 * 4
    found = next(x for x in lines if (x["row"], x["column"]) == ("hint", "2"))
    assert float(found["gain_low"]) == pytest.approx(table.cell("hint", "2").gain.low, abs=1e-6)
    assert found["over"] == "direct"
    files = {path.name: path for path in table.write(tmp_path / "out")}
    assert set(files) == {f"table.{e}" for e in ("csv", "json")} | {"scores.csv"} | {
        f"{figure}.{e}" for figure in ("accuracy", "gain") for e in ("png", "svg")
    }
    assert files["accuracy.png"].read_bytes()[1:4] == b"PNG"
    assert "hint + oracle" in files["gain.svg"].read_text()
    scores = list(csv.DictReader(files["scores.csv"].open()))
    assert [float(x["hint"]) for x in scores] == table.scores["hint"].tolist()
    assert [x["hops"] for x in scores] == [str(x.metadata["hops"]) for x in QUESTIONS]


def test_rows_that_were_not_measured_are_in_the_files_with_their_reason(tmp_path):
    blind = [Problem(task="quiz", choices=CHOICES, metadata=x.metadata) for x in QUESTIONS]
    pairs = [("blank", "direct")]
    table = ablate(executor(), blind, {"direct": [], "blank": blank()}, compare=pairs)
    *_, last = csv.DictReader(io.StringIO(table.to_csv()))
    assert last["row"] == "blank" and last["note"].startswith("not measured: the problems have no pictures")
    assert table.compared == [] and "blank and direct were not compared" in table.notes[0]
    table = ablate(executor(), blind, {"blank": blank(), "hint": ["hint"]})
    assert table.cell("hint").gain is None and "blank, was not measured" in table.notes[0]
    assert {path.stem for path in table.write(tmp_path)} == {"table", "scores", "accuracy"}


def test_bars_are_drawn_where_columns_are_no_numbers_and_names_are_not_mathematics(tmp_path):
    problems = [question(i, kind="$x$" if i % 2 else "y_2") for i in range(8)]
    rows = {"direct $": []} | {f"row {i}": ["hint"] for i in range(10)}
    table = ablate(executor(), problems, rows, column="kind")
    table.write(tmp_path)
    drawn = (tmp_path / "accuracy.svg").read_text()
    assert "$x$" in drawn and "direct $" in drawn
    table.write(tmp_path / "again")
    assert (tmp_path / "again" / "accuracy.svg").read_text() == drawn


def test_without_matplotlib_it_is_said_what_to_install_before_anything_is_written(tmp_path, monkeypatch):
    table = ablate(executor(), QUESTIONS, ROWS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingCapability, match=r"pip install 'unroller\[plots\]'"):
        table.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(table.write(tmp_path / "out", plots=False)) == 3


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ({}, ProblemError, "no rows"),
        ([("a", []), ("a", ["hint"])], ProblemError, "two rows are called 'a'"),
        ({"": []}, ProblemError, "give it a name"),
        ([("a", [], [])], ProblemError, "is no row"),
        ({"a": 3}, PolicyError, "is no policy"),
        ({"direct": [], "a": ["hnt"]}, UnknownName, "Did you mean 'hint'"),
        ({"direct": [], "a": ["spatial"]}, UnknownName, "no action is called 'spatial'"),
    ],
)
def test_rows_that_are_none(rows, error, words):
    scored = []
    with pytest.raises(error, match=words):
        ablate(executor(), QUESTIONS, rows, scorer=lambda *_: scored.append(1) or 1.0)
    assert not scored, "it is said before anything is spent"


def test_a_shuffled_row_needs_calls():
    with pytest.raises(PolicyError, match="no context to shuffle"):
        shuffled()


def test_what_else_is_refused():
    ex = executor()
    with pytest.raises(ProblemError, match="there are no problems"):
        ablate(ex, [], ROWS)
    with pytest.raises(UnknownName, match="no row is called 'hnt'.*'hint'"):
        ablate(ex, QUESTIONS, ROWS, compare=[("hnt", "direct")])
    with pytest.raises(UnknownName, match="no row is called 'all of it'"):
        ablate(ex, QUESTIONS, ROWS, contributions="all of it")
    with pytest.raises(ProblemError, match="problem 0 has no metadata 'hopes'.*'hops'"):
        ablate(ex, QUESTIONS, ROWS, column="hopes")
    with pytest.raises(ProblemError, match="must be a text or a number"):
        ablate(ex, QUESTIONS, ROWS, column="truth")
    with pytest.raises(ProblemError, match="must be a text or a number"):
        ablate(ex, QUESTIONS, ROWS, column=lambda x: math.inf)
    with pytest.raises(ProblemError, match="cannot be called 'all'"):
        ablate(ex, QUESTIONS, ROWS, column=lambda x: "all")
    with pytest.raises(ProblemError, match='counts as "wrong"'):
        ablate(ex, QUESTIONS, ROWS, faults="ignored")
    with pytest.raises(ProblemError, match="0 resamples"):
        ablate(ex, QUESTIONS, ROWS, resamples=0)
    with pytest.raises(UnknownName, match="no decoder for the task 'quizz'"):
        ablate(ex, [Problem(task="quizz")], ROWS)
    needs = seeing(lambda problem: "needs two photos")
    with pytest.raises(ProblemError, match="problem 0: quiz: needs two photos"):
        ablate(executor(decoders=[needs]), QUESTIONS, ROWS)
    with pytest.raises(UnknownName, match="the table has no 'hnt'"):
        ablate(ex, QUESTIONS, ROWS).cell("hnt")


@pytest.mark.parametrize("given", [math.nan, math.inf, -0.1, 1.1, None, "1", [1], np.zeros(2)])
def test_a_score_that_is_none_is_an_error_that_names_scorer_and_problem(given):
    def judge(problem, output):
        return given if problem.metadata["number"] == 4 else 1

    with pytest.raises(ContractError, match="the scorer judge gave .* for problem 4 in the row 'direct'"):
        ablate(executor(), QUESTIONS, ROWS, scorer=judge)


def test_a_scorer_that_raises_is_an_error_that_names_it():
    def judge(problem, output):
        return 1 / 0

    with pytest.raises(ContractError, match="the scorer judge raised ZeroDivisionError: .*problem 0"):
        ablate(executor(), QUESTIONS, ROWS, scorer=judge)
    with pytest.raises(PluginError, match="the scorer int is a int"):
        ablate(executor(), QUESTIONS, ROWS, scorer=3)
    with pytest.raises(UnknownName, match="no scorer is called 'chioce'"):
        ablate(executor(), QUESTIONS, ROWS, scorer="chioce")


def test_a_missing_truth_says_what_to_put_where():
    problems = [question(0), Problem(task="quiz", question="and now?", choices=CHOICES)]
    with pytest.raises(ProblemError, match=r'problem 1 .*and now.*metadata\["truth"\]\["answer"\]'):
        ablate(executor(), problems, ROWS, scorer=choice)
