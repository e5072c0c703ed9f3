"""Train a policy that chooses which primitive to call: build a tree, learn, evaluate, save, run it live.

Some riddles are plain; others need one of two witnesses, and only a look at the riddle tells which. A look,
a witness and the answer cost a call each. The policy is never told the rule: it finds out what to call from
what the calls wrote and what the answers came to.

With the embedded model it is the same: Executor(backend="nano"), load("problems", "rooms"), and the actions
camera_pose_estimate and text_think; on the command line, `unroller tree …` and `unroller policies train …`.
"""

from pathlib import Path

from planners import tree
from policies import LearnedPolicy
from policies.training import grpo
from unroller import Answer, Cost, Executor, Problem, Text, decoder, primitive

CALL = Cost(model_calls=1)


@primitive(reads=("metadata",), writes=Text, cost=CALL)
def look(view):
    """See which witness the riddle needs."""
    return Text(f"needs {view.metadata['needs']}")


@primitive(reads=("metadata",), writes=Text, cost=CALL)
def ask_north(view):
    """Ask the witness from the north."""
    return Text("solved" if view.metadata["needs"] == "north" else "confused")


@primitive(reads=("metadata",), writes=Text, cost=CALL)
def ask_south(view):
    """Ask the witness from the south."""
    return Text("solved" if view.metadata["needs"] == "south" else "confused")


@decoder(task="riddle", reads=("choices", "metadata", Text), writes=Answer, cost=CALL)
def riddle(view):
    said = [text.text for text in view.all(Text)]
    sure = 0.95 if "solved" in said or view.metadata["needs"] == "nobody" else 0.4
    p = sure - 0.05 * said.count("confused")
    return Answer("right", view.choices, 0 if p > 0.5 else 1, (p, 1 - p))


def riddles(count):
    return [
        Problem(
            task="riddle",
            question="Who was it?",
            choices=("right", "wrong"),
            seed=i,
            metadata={"needs": ("nobody", "north", "south")[i * 7 % 3], "truth": {"answer": "right"}},
        )
        for i in range(count)
    ]


if __name__ == "__main__":
    executor = Executor(backend=[], primitives=[look, ask_north, ask_south], decoders=[riddle], policy=[])
    tree.build(executor, riddles(90), "trees/riddles", actions=["look", "ask_north", "ask_south"], probes=[])
    riddles_tree = tree.load("trees/riddles")

    table = riddles_tree.table(tree.observation_of(riddles_tree))
    learns, held_out = table.split(0.3, seed=0)
    fresh = LearnedPolicy(observation=table.observation)
    pi = grpo.train(fresh, learns, cost_weight=0.02, seed=0, out="runs/pi")
    pi.save("runs/pi")

    unseen = sorted(set(held_out.problem.tolist()))
    for name, policy in {"learned": pi, "direct": [], "all": ["look", "ask_north", "ask_south"]}.items():
        print(f"{name:8} {tree.evaluate(riddles_tree, policy, problems=unseen)}")

    live = executor.extend(policy="runs/pi")
    for run in live.map(riddles(3)):
        print(
            run.problem.metadata["needs"],
            "→",
            ", ".join(e.action for e in run.entries) or "nothing",
            run.cost,
        )
    print("kept:", *sorted(path.name for path in Path("runs/pi").iterdir() if path.suffix != ".safetensors"))
