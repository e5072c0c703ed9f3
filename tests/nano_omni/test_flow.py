"""Flow matching on laws that are known: straight lines, a mixture of two points, guidance by hand."""

import pytest
import torch

from nano_omni.flow import Guidance, draw_times, guided, noised, sample, shifted


def test_times_are_moved_towards_noise():
    t = torch.linspace(0, 1, 11)
    assert torch.equal(shifted(t, 1.0), t)
    assert (shifted(t, 3.0) >= t).all() and shifted(t, 3.0)[[0, -1]].tolist() == [0, 1]
    drawn = [draw_times(4000, s, torch.Generator().manual_seed(0)).median().item() for s in (1.0, 3.0)]
    assert drawn == pytest.approx([0.5, 0.75], abs=0.02)


def test_a_velocity_leads_back_to_where_it_came_from():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(5, 3, 2, generator=generator) for _ in range(2))
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    x, v = noised(clean, noise, t)
    torch.testing.assert_close(x - t.view(-1, 1, 1) * v, clean)
    torch.testing.assert_close(x[[0, -1]], torch.stack([clean[0], noise[-1]]))


@pytest.mark.parametrize("steps", [1, 7])
def test_a_straight_flow_is_followed_exactly(steps):
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    goal = torch.tensor([1.0, -2.0, 0.5, 0, 3, 9])
    steps_seen = []
    found = sample(lambda x, t: (x - goal) / t, noise, steps, 3.0, lambda k, x: steps_seen.append((k, x)))
    torch.testing.assert_close(found, goal.expand(4, -1), rtol=0, atol=1e-5)
    assert [k for k, _ in steps_seen] == list(range(1, steps + 1))
    torch.testing.assert_close(steps_seen[0][1], goal.expand(4, -1), rtol=0, atol=1e-5)


def test_the_exact_velocity_of_two_points_draws_both_as_often():
    """x_0 is +1 or -1; given x_t the mean of x_0 is tanh of their evidence, and v = (x_t - mean) / t."""

    def velocity(x, t):
        mean = torch.tanh(x * (1 - t) / t**2)
        return (x - mean) / t

    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(2))
    found = sample(velocity, noise, 60, 1.0)
    assert (found.abs() - 1).abs().quantile(0.95) < 0.05
    assert found.mean().abs() < 0.05


def test_guidance_is_what_the_formula_says():
    v, no_text, no_image = (torch.randn(2, 4, generator=torch.Generator().manual_seed(k)) for k in range(3))
    off = Guidance(1.0, 1.0)
    assert guided(v, None, None, off, 0.9) is v
    free = Guidance(3.0, 2.0, least=0.0, begin=0.4)
    text = no_text + 3 * (v - no_text)
    both = no_image + 2 * (text - no_image)
    share = (v.norm(dim=1) / both.norm(dim=1)).clamp(max=1)
    torch.testing.assert_close(guided(v, no_text, no_image, free, 0.9), both * share[:, None])
    assert guided(v, no_text, no_image, free, 0.4) is v  # outside (begin, end]
    longest = guided(v, no_text, no_image, Guidance(3.0, 2.0, least=1.0), 0.9)
    torch.testing.assert_close(longest, both)


def test_guidance_is_never_left_out_in_silence():
    with pytest.raises(ValueError, match="without the text"):
        guided(torch.ones(1, 2), None, None, Guidance(4.0), 0.9)
    with pytest.raises(ValueError, match="without them"):
        guided(torch.ones(1, 2), None, None, Guidance(1.0, 1.5), 0.9)


@pytest.mark.parametrize("wrong", [{"text": -1.0}, {"image": float("nan")}, {"least": 2.0}, {"begin": 1.1}])
def test_guidance_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="guidance"):
        Guidance(**wrong)


def test_no_steps_draw_nothing():
    with pytest.raises(ValueError, match="1 step or more"):
        sample(lambda x, t: x, torch.ones(1, 2), 0, 1.0)
