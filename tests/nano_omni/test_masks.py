"""Mask rules against a naive oracle: every pair of tokens judged by itself."""

import random

import pytest
import torch

from nano_omni.masks import KINDS, Segment, attention_mask, generation, positions


def naive(segments: list[Segment]) -> torch.Tensor:
    tokens = [(k, i) for k, s in enumerate(segments) for i in range(s.length)]
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for row, (k, i) in enumerate(tokens):
        chain, above = [], segments[k].parent
        while above is not None:
            chain.append(above)
            above = segments[above].parent
        for col, (m, j) in enumerate(tokens):
            if m == k:
                mask[row, col] = j <= i if segments[k].kind == "text" else True
            elif m in chain:
                mask[row, col] = segments[m].kind != "noised"
    return mask


def random_tree(rng: random.Random) -> list[Segment]:
    return [
        Segment(rng.choice(KINDS), rng.randint(1, 4), rng.choice([None, *range(k)]) if k else None)
        for k in range(rng.randint(1, 8))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_mask_is_what_the_rules_say_pair_by_pair(seed):
    tree = random_tree(random.Random(seed))
    assert torch.equal(attention_mask(tree), naive(tree))


def test_a_branch_sees_what_it_would_see_alone():
    tree = [
        Segment("text", 1),
        Segment("image", 4, 0),
        Segment("text", 3, 1),  # a question
        Segment("text", 2, 2),  # one branch
        Segment("text", 5, 2),  # another
    ]
    alone = [tree[0], tree[1], tree[2], Segment("text", 5, 2)]
    keep = [*range(8), *range(10, 15)]
    assert torch.equal(attention_mask(tree)[keep][:, keep], attention_mask(alone))
    assert torch.equal(positions(tree)[keep], positions(alone))


def test_positions_count_text_and_give_an_image_one():
    tree = [Segment("text", 2), Segment("image", 3, 0), Segment("text", 2, 1), Segment("text", 1, 1)]
    assert positions(tree).tolist() == [0, 1, 2, 2, 2, 3, 4, 3]


def test_a_noised_picture_is_seen_by_nobody_else_and_only_latents_are_generation():
    tree = [Segment("text", 1), Segment("noised", 2, 0), Segment("latent", 2, 1), Segment("image", 2, 2)]
    mask = attention_mask(tree)
    assert not mask[3:, 1:3].any() and mask[1:3, 1:3].all() and mask[1:3, 0].all()
    assert generation(tree).tolist() == [False, True, True, True, True, False, False]
    assert positions(tree).tolist() == [0, 1, 2, 1, 1, 2, 2]


def test_a_parent_must_come_first():
    with pytest.raises(ValueError, match="must come before"):
        attention_mask([Segment("text", 1, 0)])
