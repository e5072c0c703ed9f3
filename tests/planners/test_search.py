"""Searches: what they find is what one works out by hand, live and on a tree alike."""

import sys
from pathlib import Path

import pytest

from planners import search, tree
from planners.search import Beam, BestOfN, Exhaustive, MonteCarlo
from unroller import Answer, Executor, Problem, Text
from unroller.check import check
from unroller.faults import ContractError, PlanError, ProblemError

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys

N = 8
ACTIONS = ["hint", "picture", "dice", "stumble"]


def executor(**options):
    parts = [part for part in toys.PARTS if part.name in ACTIONS]
    return Executor(backend=[], primitives=parts, decoders=[toys.quiz], **options)


def problems(n=N):
    return [toys.questions(i) for i in range(n)]


@pytest.fixture(scope="module")
def quiz_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "tree"
    tree.build(executor(), problems(), folder, actions=ACTIONS, depth=2, draws=3, probes=[])
    return tree.load(folder)


def calls(found):
    return [one.place.calls for one in found]


def test_exhaustive_finds_the_surest_answer_and_the_shortest_way_to_it():
    # 0.95 needs a picture and something that was said: a hint does it in two calls.
    found = Exhaustive(depth=2).find(problems(), executor())
    assert [round(one.value, 9) for one in found] == [0.95] * N
    assert all(set(one) in ({"hint", "picture"}, {"picture", "dice"}) for one in calls(found))
    assert all(one.looked == 17 for one in found), "1 + 4 + 4 × 3 places"


def test_a_cost_weight_makes_calls_that_are_not_worth_it_not_made():
    assert set(calls(Exhaustive(depth=2, weight=0.4).find(problems(), executor()))) == {("picture",)}
    assert set(
        calls(Exhaustive(depth=2, weight=0.4, price="model_calls+price").find(problems(), executor()))
    ) == {()}


def test_a_beam_goes_on_from_what_it_trusts_and_looks_at_less():
    found = Beam(width=1, depth=2).find(problems(), executor())
    assert [round(one.value, 9) for one in found] == [0.95] * N
    # the bare answer, four calls, and what follows the best of them
    assert all(one.looked == 1 + 4 + 3 for one in found)


def test_best_of_n_samples_what_is_stochastic():
    found = BestOfN(n=6, calls=["dice"]).find(problems(), executor())
    assert sum(round(one.value, 9) == 0.9 for one in found) == N, "one of six coins falls well"
    assert all(one.charged.model_calls == 1 + 6 * 2 for one in found)
    plans = BestOfN(n=6, calls=["dice"]).search(problems(), executor())
    assert {plan.calls[0].draw for plan in plans} > {0}


def test_best_of_n_without_calls_tries_random_ones():
    found = BestOfN(n=5, depth=2).find(problems(), executor())
    assert all(one.looked >= 2 for one in found) and len(set(calls(found))) > 1
    assert calls(found) == calls(BestOfN(n=5, depth=2).find(problems(), executor()))
    assert calls(BestOfN(n=1).find(problems(), executor())) == [()] * N, "the bare answer is one of them"


def test_monte_carlo_keeps_to_its_calls_and_finds_all_with_enough_of_them():
    few = MonteCarlo(calls=6, depth=2).find(problems(), executor())
    # The last place may take it over by what one place is charged: two calls for stumbling and the answer.
    assert all(one.charged.model_calls <= 6 + 2 for one in few) and all(one.looked < 17 for one in few)
    many = MonteCarlo(calls=1000, depth=2).find(problems(), executor())
    assert all(one.looked == 17 and round(one.value, 9) == 0.95 for one in many)


@pytest.mark.parametrize(
    "planner",
    [
        Beam(2, 2),
        Exhaustive(2),
        MonteCarlo(9, 2),
        BestOfN(4, depth=2),
        Beam(1, 2, score="certainty", weight=0.1),
    ],
    ids=repr,
)
def test_on_a_tree_a_search_finds_and_is_charged_what_it_does_live(quiz_tree, planner):
    live = planner.find(problems(), executor())
    found = planner.choose(search.TreeGround(quiz_tree, planner, draw=0))
    assert found == live


def test_a_search_is_evaluated_on_a_tree_by_the_truth_it_did_not_see(quiz_tree):
    found = search.evaluate(quiz_tree, Exhaustive(2))
    by_hand = 0.0
    for draw in range(3):
        ground = search.TreeGround(quiz_tree, Exhaustive(2), draw)
        for one in Exhaustive(2).choose(ground):
            by_hand += quiz_tree.score[ground.where(one.place)] / (3 * N)
    assert found.score.mean == pytest.approx(by_hand) and found.policy == "exhaustive"
    assert found.cost.mean > 20, "the whole search is charged"
    sampled = search.evaluate(quiz_tree, BestOfN(3, calls=["dice"]))
    assert sampled.score.mean > tree.evaluate(quiz_tree, ["dice"]).score.mean
    with pytest.raises(tree.TreeError, match="sample 4 and the tree has 3 draws"):
        search.evaluate(quiz_tree, BestOfN(4, calls=["dice"]))


def test_it_runs_as_a_planner_and_the_run_finds_its_calls_made():
    with executor(planner=Beam(width=1, depth=2)) as ex:
        runs = list(ex.map(problems()))
    assert all(len(run.decisions) == 2 and run.output.probabilities for run in runs)
    assert all(run.spent.computed == 0 for run in runs), "everything was in the memo"


@pytest.mark.parametrize("name", ["beam", "best_of_n", "monte_carlo", "exhaustive"])
def test_each_is_registered_and_keeps_the_contract_of_planners(name):
    from unroller.registry import load

    kind = load("planners", name)
    assert kind().name == name
    if name != "exhaustive":  # which refuses the toys' many actions, in words
        assert check(kind(depth=1, score=lambda x, y: 0.5)).ok


def test_what_is_tried_keeps_within_the_budget():
    found = Exhaustive(depth=2).find(problems(), executor(budget={"model_calls": 2}))
    assert max(len(one) for one in calls(found)) == 2 and ("hint", "dice") not in calls(found)
    assert all(one.looked < 17 for one in found)


def test_the_truth_is_not_shown_to_a_score():
    with pytest.raises(ProblemError, match="truth"):
        Beam(score="soft_choice").find(problems(), executor())


def test_an_answer_without_probabilities_needs_a_score_of_ones_own():
    from unroller import decoder

    @decoder(task="words", writes=Text)
    def words(view):
        return Text("ho " * len(view.all(Text)) or "hm")

    x = Problem(task="words", question="?", metadata={"number": 2, "truth": {"answer": "a"}})
    ex = executor().extend(decoders=[words])
    with pytest.raises(ContractError, match="a score of your own"):
        Beam().find([x], ex)
    longest = Beam(depth=1, score=lambda x, y: min(1, len(y.text) / 10)).find([x], ex)
    assert len(longest[0].place.calls) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Beam(width=0), "1 or more wide"),
        (lambda: BestOfN(n=0), "1 or more"),
        (lambda: MonteCarlo(calls=0), "1 or more"),
        (lambda: Beam(weight=-1), "0 or more"),
        (lambda: Beam(price="seconds"), "is no cost"),
    ],
)
def test_bad_options_are_refused_in_words(make, said):
    with pytest.raises((PlanError, tree.TreeError), match=said):
        make()


def test_more_than_can_be_tried_is_refused_in_words():
    from unroller import primitive

    many = [primitive(reads=(), writes=Text, name=f"p{i}")(lambda view: Text("x")) for i in range(8)]
    ex = Executor(backend=[], primitives=many, decoders=[toys.quiz])
    with pytest.raises(PlanError, match="fewer primitives"):
        Exhaustive(depth=8).find(problems(), ex)


def test_self_scores():
    x = toys.questions(0)
    sure, torn = Answer("a", toys.CHOICES, 0, (1.0, 0.0)), Answer("a", toys.CHOICES, 0, (0.5, 0.5))
    assert search.confidence(x, sure) == 1 == search.certainty(x, sure)
    assert search.confidence(x, torn) == 0.5 and search.certainty(x, torn) == 0


def test_on_a_tree_of_sets_a_search_is_charged_for_the_call_that_it_makes(tmp_path):
    from unroller import Cost, decoder, primitive

    def says(name, calls):
        return primitive(reads=("question",), writes=Text, cost=Cost(calls), name=name)(
            lambda view: Text(name)
        )

    @decoder(task="toy", reads=("choices", Text), writes=Answer, cost=Cost(1))
    def toy(view):
        p = 0.3 + 0.3 * len(view.all(Text))
        return Answer("right", view.choices, 0, (p, 1 - p))

    asked = [
        Problem(
            task="toy", question=f"{k}?", choices=("right", "wrong"), metadata={"truth": {"answer": "right"}}
        )
        for k in range(3)
    ]
    ex = Executor(backend=[], primitives=[says("cheap", 1), says("dear", 5)], decoders=[toy], policy=[])
    made = tree.build(ex, asked, tmp_path / "sets", actions=["cheap", "dear"], orders="sets", probes=[])
    planner = Exhaustive(depth=2)
    live = [found.charged.model_calls for found in planner.find(asked, ex)]
    assert search.evaluate(tree.load(made), planner).charges[:, 0].tolist() == live
