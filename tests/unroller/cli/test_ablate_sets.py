"""`unroller ablate` with a problem set that says what it is for and which rows are worth measuring."""

from pathlib import Path

TOYS = Path(__file__).with_name("ablation_toys.py")


def test_a_task_has_its_problem_set_and_the_set_its_rows_and_column(unroller):
    said = unroller("ablate", "--use", TOYS, "--task", "quiz", "--n", 6, "--json")
    assert said.code == 0, said.err
    assert said.json["rows"] == ["direct", "told", "unheard of"] and said.json["by"] == "hops"
    assert said.json["missing"] == {"unheard of": "no action is called 'nobody'"}


def test_rows_a_policy_and_a_column_of_ones_own_come_first(unroller):
    given = ("ablate", "--use", TOYS, "--problem", "proposing", "--n", 6, "--json")
    assert unroller(*given, "--row", "mumble").json["rows"] == ["mumble"]
    assert unroller(*given, "--policy", "hint_then_mumble").json["rows"][-1] == "hint + mumble"
    assert unroller(*given, "--column", "truth.answer").json["by"] == "truth.answer"


def test_a_pair_may_be_one_of_proposed_rows(unroller):
    said = unroller("ablate", "--use", TOYS, "--task", "quiz", "--n", 6, "--json", "--compare", "told,direct")
    assert {pair["row"] for pair in said.json["compared"]} == {"told"}


def test_without_a_set_and_a_task_or_with_a_task_that_nobody_serves(unroller):
    said = unroller("ablate", "--use", TOYS)
    assert said.code != 0 and "--problem" in said.err and "proposing" in said.err
    said = unroller("ablate", "--use", TOYS, "--task", "dancing")
    assert said.code != 0 and "no problem set is for the task dancing" in said.err
