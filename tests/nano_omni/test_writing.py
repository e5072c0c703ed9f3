"""Thinking trained by the answers that follow it: what is drawn, what is learned from, what is left alone."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from nano_omni.branches import Branches, repeat
from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds
from nano_omni.language import think_length
from nano_omni.model import NanoOmni
from nano_omni.training.run import save_weights
from nano_omni.training.thoughts import advantages, asked_of, draw, read
from nano_omni.training.writing import COLUMNS, RECIPES, Writer, main, train
from nano_omni.training.writing_effect import ROWS, effect, table
from nano_omni.vocabulary import INDEX

CPU = torch.device("cpu")
TINY = RECIPES["tiny"]


def model(seed=0):
    torch.manual_seed(seed)
    made = NanoOmni(config=CONFIGS["tiny"])
    torch.nn.init.normal_(made.head.weight, std=0.5)
    for block in made.blocks:  # layers start as the identity: without this no word would change another
        for layer in (block.experts[0].out, block.experts[0].down):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return made.eval()


def writer(seed=0, **changes):
    changes = {"forms": (1,), "floor": 1e-6, "check_questions": 4} | changes
    return Writer(model(), replace(TINY, **changes), seed, CPU)


def some_rooms(form=2, most=3):
    many = rooms(split_seeds("train", 1 << 40, 12), CONFIGS["tiny"], (form,), imagined=False)
    return asked_of(many, form, most)


def test_advantages_compare_the_thoughts_of_one_question():
    rewards = torch.tensor([[0.1, 0.3, 0.5], [0.9, 0.9, 0.6]])
    found = advantages(rewards)
    torch.testing.assert_close(found.mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(2))
    assert found[0].argmax() == 2 and found[1].argmin() == 2


def test_thoughts_are_drawn_with_the_probabilities_that_reading_them_gives():
    one, some = model(), some_rooms()
    thoughts = draw(one, some, 2, 3, generator=torch.Generator().manual_seed(0))
    assert thoughts.words.shape == (len(some), 3, think_length(2))
    assert (thoughts.words[..., 0] == INDEX["<think>"]).all()
    again = draw(one, some, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(thoughts.words, again.words)  # by the generator, and nothing else
    assert not torch.equal(thoughts.words[:, 0], thoughts.words[:, 1])
    found = read(one, some, 2, thoughts)
    torch.testing.assert_close(found.right, thoughts.right, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.logs.exp().sum(-1), torch.ones(found.logs.shape[:3]))
    cold = draw(one, some, 2, 3, 1e-4, torch.Generator().manual_seed(1))
    assert torch.equal(cold.words[:, 0], cold.words[:, 1])
    best = read(one, some, 2, cold).logs.argmax(-1)
    assert torch.equal(best, cold.words[..., 1:])  # nearly without temperature: the likeliest words


def test_repeated_samples_go_on_each_in_its_own_way():
    one, some = model(), some_rooms()
    told = Branches(one, some.photos)
    state = told.read(told.start, some.asked[2].question)
    _, alone = told.write(state, [INDEX["<think>"]], 8)
    _, several = told.write(repeat(state, 4), [INDEX["<think>"]], 8)
    assert torch.equal(several.view(len(some), 4, 8), alone[:, None].expand(-1, 4, -1))


def test_what_helped_more_becomes_more_probable():
    run = writer(kl=0.0, questions=6, rate=1e-3, warmup=1, forms=(2,), thoughts=8)
    batch = run.batch()
    some = asked_of(batch, 2, 6)
    thoughts = draw(run.model, some, 2, 8, generator=torch.Generator().manual_seed(run.seed))
    gained = advantages(thoughts.right.exp())

    def said():
        with torch.no_grad():
            logs = read(run.model, some, 2, thoughts).logs
        return logs.gather(3, thoughts.words[..., 1:, None])[..., 0].sum(-1)

    before = said()
    run.update(batch)  # draws the same thoughts, by the same generator
    assert ((said() - before) * gained).sum() > 0


def test_groups_whose_thoughts_do_alike_teach_nothing():
    run = writer(floor=1.0)
    before = [p.clone() for p in run.model.parameters()]
    values = run.update(run.batch())
    assert values["flat"] == 1 and values["norm"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_only_the_last_layers_and_the_head_are_trained():
    run = writer(rate=1e-2, warmup=1)
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    run.update(run.batch())
    changed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(name.startswith(("blocks.1.", "norm.", "head.")) for name in changed)
    assert len(writer(layers=2).names) > len(writer().names) > len(writer(layers=0).names) == 2
    with pytest.raises(ValueError, match="0 trains the head alone"):
        writer(layers=-1)


def test_the_start_is_left_alone_and_the_first_step_stands_where_it_does():
    run = writer(rate=1e-2)
    start = [p.clone() for p in run.start.parameters()]
    first, second = run.update(run.batch()), run.update(run.batch())
    assert first["kl"] == pytest.approx(0, abs=1e-6) and second["kl"] > 1e-6
    assert all(torch.equal(a, b) for a, b in zip(start, run.start.parameters(), strict=True))


def test_several_updates_from_the_same_thoughts_are_clipped():
    run = writer(rate=5e-2, warmup=1, epochs=4, clip=0.01, norm=100.0)
    assert run.update(run.batch())["clipped"] > 0


def test_the_pull_to_the_start_pulls():
    def moved(kl):
        run = writer(rate=3e-3, warmup=1, kl=kl, steps=12)
        batch = run.batch()
        return [run.update(batch)["kl"] for _ in range(6)][-1]

    assert moved(100.0) < 0.5 * moved(0.0)


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path):
    straight, first = writer(), writer()
    train(straight, tmp_path / "a", say=lambda line: None)
    for _ in range(3):
        first.update(first.batch())
    first.save(tmp_path / "b")
    (tmp_path / "b" / "curves.csv").write_text(",".join(COLUMNS) + "\n5,0,0,0,0,0,0,0,0,0,0\n")  # lost steps
    second = writer()
    second.load(tmp_path / "b")
    train(second, tmp_path / "b", say=lambda line: None)
    for a, b in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    rows = [
        [row[:1] + row[2:] for row in csv.reader((tmp_path / name / "curves.csv").read_text().splitlines())]
        for name in "ab"
    ]
    assert rows[0][4:] == rows[1][1:]  # but for the seconds
    with pytest.raises(ValueError, match="is a run of seed 0"):
        writer(seed=1).load(tmp_path / "b")


def test_the_command_writes_weights_and_curves_and_the_effect_is_measured_on_them(tmp_path, capsys):
    save_weights(model(), tmp_path / "start", "random")
    said = f"--weights {tmp_path / 'start'} --out {tmp_path / 'run'} --config tiny --device cpu"
    main([*said.split(), "--steps", "2", "--floor", "1e-6"])
    main([*said.split(), "--steps", "4", "--floor", "1e-6", "--resume"])
    with open(tmp_path / "run" / "curves.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert json.loads((tmp_path / "run" / "writing.json").read_text())["thoughts"] == TINY.thoughts
    assert (tmp_path / "run" / "weights" / "model.safetensors").exists()
    for wrong in ("--thoughts 1", "--temperature 0", "--kl -1", "--floor 0", "--questions 0"):
        with pytest.raises(ValueError, match="or more|above 0"):
            main([*said.split(), *wrong.split()])


def test_the_same_weights_have_no_effect_and_others_do():
    found = effect(model(), model(), 8, CPU, forms=(1, 2), batch=5, say=lambda line: None)
    assert list(found["rows"]) == list(ROWS) and found["forms"] == ["1", "2", "all"]
    for row in ROWS:
        for cell in found["rows"][row].values():
            assert cell["gain"] == (0, 0, 0) and cell["probability gained"][0] == pytest.approx(0, abs=1e-4)
    other = effect(model(), model(1), 8, CPU, forms=(1,), votes=3, say=lambda line: None)
    cell = other["rows"]["pose + thinking"]["all"]
    assert cell["probability before"] != cell["probability after"]
    assert table(other).count("\n") == 2 + len(ROWS) and "the mean of 3 drawn" in table(other)
