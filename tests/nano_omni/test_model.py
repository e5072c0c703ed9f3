"""The model: one function for training and cached decoding, routing, saving."""

from dataclasses import replace

import pytest
import torch

from nano_omni.branches import Branches, unroll
from nano_omni.config import CONFIGS, Config
from nano_omni.data import rooms, split_seeds
from nano_omni.evaluation import gain, within
from nano_omni.language import POSE_LENGTH, think_length
from nano_omni.masks import Segment, attention_mask, generation, photo_segments, positions
from nano_omni.model import NanoOmni, write
from nano_omni.training.forest import Forest
from nano_omni.vocabulary import DIRECTION_0, INDEX


def randomised(config: Config) -> NanoOmni:
    """Weights as if trained: a fresh model's layers are the identity, which would hide mistakes."""
    torch.manual_seed(0)
    model = NanoOmni(config=config).eval()
    for p in model.parameters():
        if p.dim() >= 2 and not p.any():
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    return model


@pytest.fixture(scope="module")
def model() -> NanoOmni:
    return randomised(CONFIGS["tiny"])


@pytest.fixture(scope="module")
def held():
    return rooms(split_seeds("test", 0, 24), CONFIGS["tiny"])


@torch.no_grad()
def whole(model: NanoOmni, photos, words):
    """Logits of a plain chain of photos and words, no cache."""
    tree = photo_segments(model.config.grid**2)
    tree.append(Segment("text", words.shape[1], len(tree) - 1))
    x = model.sequence(model.see(photos)[0], words)
    return model.head(model.run(x, positions(tree), attention_mask(tree))[0])


def test_cached_decoding_equals_the_full_forward(model, held):
    question = held.asked[2].question
    told = Branches(model, held.photos)
    state, pose = told.write(told.read(told.start, question), [INDEX["<campose>"]], POSE_LENGTH)
    state, thought = told.write(state, [INDEX["<think>"]], think_length(2))
    answer = torch.full((len(held), 1), INDEX["<answer>"])
    _, logits, _ = write(model, answer, 1, state[1], state[0])
    words = torch.cat([question, pose, thought, answer], 1)
    full = whole(model, held.photos, words)
    assert torch.allclose(logits, full[:, -1], atol=1e-4)
    n = question.shape[1]
    written = full[:, -words.shape[1] :].argmax(-1)
    assert torch.equal(written[:, n : n + POSE_LENGTH - 1], pose[:, 1:])  # greedy, word by word
    assert torch.equal(written[:, n + POSE_LENGTH : -2], thought[:, 1:])


def test_a_batch_answers_as_one_by_one(model, held):
    many, _ = unroll(model, held, 3)
    for k in (0, 11):
        one, _ = unroll(model, held[k : k + 1], 3)
        for row in ("direct", "pose + thinking", "views", "latent", "oracle thinking", "blank photos"):
            assert torch.allclose(one[row][0], many[row][k], atol=1e-4), row


def test_every_branch_of_the_forest_reads_as_if_it_were_alone(model, held):
    forest = Forest(model.config, "cpu", (1, 2), "chain")
    words, _ = forest.fill(held, 0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(held.photos, words, forest.positions, forest.mask, forest.read).logits
    cell = forest.cells.index((2, "think+pose"))
    first = forest.nodes.index((2, "question")) + len(photo_segments(1))  # nodes leave the photos out
    photos = forest.photo_length
    begin = sum(node.length for node in forest.segments[:first]) - photos
    lengths = [node.length for node in forest.segments[first : first + 10]]
    starts = [begin + sum(lengths[:k]) for k in range(10)]
    # question, direct, P, T, PT, pose, think, pose+think, TP, think+pose
    parts = [words[:, starts[k] : starts[k] + lengths[k]] for k in (0, 3, 8, 9)]
    alone = whole(model, held.photos, torch.cat(parts, 1))[:, -1]
    assert torch.allclose(logits[:, forest.answer_rows[cell]], alone, atol=1e-4)


def test_latents_are_routed_to_the_generation_expert_and_nothing_else_is():
    model = randomised(CONFIGS["tiny"])
    both = model.with_generation_expert()
    tree = [Segment("text", 3), Segment("latent", 4, 0), Segment("text", 2, 1)]
    mask, place, route = attention_mask(tree), positions(tree), generation(tree)
    x = torch.randn(2, 9, model.config.width)
    with torch.no_grad():
        plain = model.run(x, place, mask)[0]
        assert torch.allclose(both.run(x, place, mask, generation=route)[0], plain, atol=1e-5)  # a copy
        for block in both.blocks:
            block.experts[1].down.weight.normal_()
        other = both.run(x, place, mask, generation=route)[0]
    assert torch.allclose(other[:, :3], plain[:, :3], atol=1e-5)  # text before the latents: untouched
    assert not torch.allclose(other[:, 3:7], plain[:, 3:7], atol=1e-2)
    with pytest.raises(ValueError, match="no generation expert"):
        model.run(x, place, mask, generation=route)


@pytest.mark.parametrize("experts", [1, 2])
def test_saved_and_loaded_again(tmp_path, held, experts):
    model = randomised(CONFIGS["tiny"])
    model = model if experts == 1 else model.with_generation_expert()
    model.save_pretrained(tmp_path)
    again = NanoOmni.from_pretrained(str(tmp_path)).eval()
    assert again.config == model.config
    words = held.asked[1].question
    assert torch.equal(whole(again, held.photos, words), whole(model, held.photos, words))


def test_the_shipped_sizes_fit_their_file():
    for name in ("cpu", "gpu"):
        with torch.device("meta"):
            model = NanoOmni(config=CONFIGS[name])
        assert model.count_parameters() * 2 <= 15_500_000, name


def test_the_largest_shape_is_that_of_bagel():
    """Qwen2.5-7B has 7.62 billion parameters, of which 1.09 are embedding and head; BAGEL has all but those
    twice."""
    with torch.device("meta"):
        model = NanoOmni(config=CONFIGS["bagel"])
    outside = [model.embed, model.head]
    shared = sum(p.numel() for part in outside for p in part.parameters())
    decoder = sum(p.numel() for p in model.blocks.parameters())
    assert shared == pytest.approx(1.09e9, rel=0.01)
    assert decoder == pytest.approx(2 * (7.62e9 - 1.09e9), rel=0.01)


@pytest.mark.parametrize(
    "change", [{"kv_heads": 1}, {"gated": True, "hidden": 40}, {"bias": True, "kv_heads": 1, "experts": 2}]
)
def test_every_shape_decodes_with_a_cache_as_without(held, change):
    model = randomised(replace(CONFIGS["tiny"], **change))
    question = held.asked[2].question
    told = Branches(model, held.photos)
    past, position = told.read(told.start, question)
    assert past[0][0].shape[1] == (change.get("kv_heads") or 2)
    with torch.no_grad():
        _, logits, _ = write(model, torch.full((len(held), 1), INDEX["<answer>"]), 1, position, past)
    words = torch.cat([question, torch.full((len(held), 1), INDEX["<answer>"])], 1)
    assert torch.allclose(logits, whole(model, held.photos, words)[:, -1], atol=1e-4)


def test_within_one_step_wraps_around_the_circle():
    truth = torch.tensor([DIRECTION_0, DIRECTION_0])
    assert within(torch.tensor([DIRECTION_0 + 47, DIRECTION_0 + 46]), truth).tolist() == [True, False]


def test_a_paired_interval_holds_the_mean():
    base = torch.arange(1000) % 4 == 0
    better = base | (torch.arange(1000) % 10 == 0)
    mean, low, high = gain(better, base)
    assert low < mean < high and mean == pytest.approx(5.0)
