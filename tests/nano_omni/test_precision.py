"""Training in bfloat16: nearly the same losses and gradients as in float32, on processors made for it."""

import pytest
import torch
from tiny.nano_models import with_both_experts

from nano_omni.masks import Segment, attention_mask, generation, positions
from nano_omni.training.muon import newton_schulz
from nano_omni.training.precision import narrow, precision

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(not narrow(CPU), reason="this processor does not multiply bfloat16")


@pytest.fixture
def model():
    return with_both_experts().train()


def gradients(model, precise):
    tree = [Segment("text", 5, None), Segment("noised", 4, 0)]
    x = torch.randn(3, 9, model.config.width, generator=torch.Generator().manual_seed(1))
    with precision(CPU, not precise):
        y, _ = model.run(x, positions(tree), attention_mask(tree), generation=generation(tree), keep=False)
        loss = y.float().square().mean() + model.head(y).float().square().mean()
    model.zero_grad()
    loss.backward()
    kept = torch.cat([p.grad.flatten() for p in model.blocks.parameters() if p.grad is not None])
    return loss.item(), kept


@needs_bfloat16
def test_bfloat16_gives_nearly_the_gradients_of_float32(model):
    (exact, true), (near, rounded) = gradients(model, True), gradients(model, False)
    assert exact != near, "nothing was rounded"
    assert near == pytest.approx(exact, rel=0.01)
    assert torch.cosine_similarity(true, rounded, dim=0) > 0.999


def test_float32_is_what_is_not_asked_to_be_narrow(model):
    assert gradients(model, True)[0] == gradients(model, True)[0]
    with precision(CPU, narrow_on_cpu=False):
        assert not torch.is_autocast_enabled("cpu")


@needs_bfloat16
def test_matrices_become_nearly_orthogonal_in_either_precision():
    stack = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(0))
    exact, near = newton_schulz(stack), newton_schulz(stack, narrow=True).float()
    assert near.dtype == torch.float32 and torch.allclose(exact, near, atol=0.05)
    spread = torch.linalg.svdvals(near)
    assert spread.min() > 0.5 and spread.max() < 1.4


def test_tokens_that_are_drawn_last_are_routed_as_if_they_were_mixed_in(model):
    """One cut or a gather: a permutation of the tokens gives the same hidden states, permuted."""
    tree = [Segment("text", 5, None), Segment("noised", 4, 0)]
    mask, place, route = attention_mask(tree), positions(tree), generation(tree)
    x = torch.randn(2, 9, model.config.width, generator=torch.Generator().manual_seed(2))
    order = torch.tensor([5, 0, 6, 1, 7, 2, 8, 3, 4])
    with torch.no_grad():
        cut, _ = model.run(x, place, mask, generation=route)
        mixed, _ = model.run(x[:, order], place[order], mask[order][:, order], generation=route[order])
    assert torch.allclose(cut[:, order], mixed, atol=1e-5)
