"""Drawing: what was read once is what every step of sampling sees, and a seed is a picture."""

from dataclasses import replace

import pytest
import torch
from tiny.nano_models import with_both_experts

from nano_omni import plans
from nano_omni.autoencoder import CHANNELS, Autoencoder
from nano_omni.config import CONFIGS
from nano_omni.data import split_seeds
from nano_omni.drawing import Sampling, Together, draw, noise, seen, velocity
from nano_omni.flow import Guidance
from nano_omni.latents import NUMBERS, TOKENS, patches, whole
from nano_omni.masks import Segment, attention_mask, generation, positions
from nano_omni.model import NanoOmni, write
from nano_omni.pictures import pictures
from nano_omni.reader import Reader
from nano_omni.vocabulary import INDEX, nearest

ALONE = Sampling(steps=3, guidance=Guidance(text=1.0, image=1.0))


@pytest.fixture(scope="module")
def model():
    return with_both_experts()


@pytest.fixture(scope="module")
def held():
    torch.manual_seed(0)
    return Autoencoder().eval()


@pytest.fixture(scope="module")
def some():
    return pictures(split_seeds("val", 0, 4))


@pytest.fixture
def told(model, some):
    """Of four samples the prompt; two have a thought and a roll-out beside."""
    reader = Reader(model)
    nodes = reader.begin(some.prompt.tolist())
    thought = nearest(some.think())
    rolled = plans.roll_out(some.codes)
    for context in (thought, rolled):
        nodes[:2] = reader.read(nodes[:2], context[:2].tolist())
    return reader, [seen(node) for node in nodes]


def test_latents_are_cut_into_the_cells_of_visual_tokens():
    latents = torch.arange(CHANNELS * 64.0).view(1, CHANNELS, 8, 8)
    cut = patches(latents)
    assert cut.shape == (1, TOKENS, NUMBERS)
    assert torch.equal(whole(cut), latents)
    assert set(cut[0, 5].tolist()) == set(latents[0, :, 2:4, 2:4].flatten().tolist())


def test_sampling_sees_what_a_full_pass_sees(model, told, some):
    """The velocity given a kept past is that of the whole sequence under the masks of training."""
    _, pasts = told
    x = torch.randn(4, TOKENS, NUMBERS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cached = velocity(model, Together(pasts), x, 0.6)
        thought = nearest(some.think())
        for row, words in (
            (0, torch.cat([some.prompt[0], thought[0], plans.roll_out(some.codes)[0]])),
            (3, some.prompt[3]),
        ):
            chain = [Segment("text", len(words)), Segment("noised", TOKENS, 0)]
            time = torch.tensor([0.6])
            entered = model.ends.embed(x[row : row + 1], time)
            embedded = torch.cat([model.embed(words)[None], entered.tokens], 1)
            mask = attention_mask(chain)
            hidden, _ = model.run(embedded, positions(chain), mask, generation=generation(chain))
            full = model.ends.velocity(hidden[:, len(words) :], x[row : row + 1], time, entered)
            torch.testing.assert_close(cached[row], full[0], rtol=0, atol=1e-4)


def test_a_picture_is_its_seeds_whatever_is_drawn_beside(model, told, held):
    _, pasts = told
    together = draw(model, pasts, None, None, [7, 8, 9, 7], ALONE, held=held)
    alone = draw(model, pasts[3:], None, None, [7], ALONE, held=held)
    assert together.shape == (4, 3, 64, 64) and together.dtype == torch.uint8
    assert (together[3].int() - alone[0].int()).abs().max() <= 1
    other = draw(model, pasts[3:], None, None, [8], ALONE, held=held)
    assert not torch.equal(other, alone)


def test_noise_is_normal_and_of_each_seed_its_own():
    drawn = noise(list(range(200)))
    assert drawn.mean().abs() < 0.01 and abs(drawn.std() - 1) < 0.01
    assert torch.equal(drawn[3], noise([3])[0])
    assert noise([(1 << 63) - 1]).isfinite().all()


def test_guidance_leads_away_from_its_companions(model, told, held):
    reader, pasts = told
    nothing = [seen(node) for node in reader.begin([plans.EMPTY] * 4)]
    free = draw(model, pasts, None, None, [1] * 4, ALONE, held=held)
    led = replace(ALONE, guidance=Guidance(text=5.0, image=1.0))
    followed = draw(model, pasts, nothing, None, [1] * 4, led, held=held)
    assert not torch.equal(free, followed)
    # Where a companion says the same, there is nowhere to be led.
    same = draw(model, nothing, nothing, None, [1] * 4, led, held=held)
    plain = draw(model, nothing, None, None, [1] * 4, ALONE, held=held)
    assert (same.int() - plain.int()).abs().max() <= 1
    with pytest.raises(ValueError, match="guidance on text"):
        draw(model, pasts, None, None, [1] * 4, led, held=held)
    with pytest.raises(ValueError, match="guidance on pictures"):
        both = Sampling(steps=1, guidance=Guidance(image=1.5))
        draw(model, pasts, nothing, None, [1] * 4, both, held=held)


def test_every_step_is_shown(model, told, held):
    _, pasts = told
    shown = []
    drawn = draw(model, pasts, None, None, [1] * 4, ALONE, lambda k, x: shown.append((k, x)), held)
    assert [k for k, _ in shown] == [1, 2, 3]
    assert torch.equal(shown[-1][1], drawn)  # the last step leads to what is shown


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sampling(steps=0), "1 step or more"),
        (lambda: Sampling(shift=0.0), "above 0"),
        (lambda: Guidance(text=-1.0), "0 or more"),
        (lambda: Guidance(image=float("nan")), "0 or more"),
    ],
)
def test_sampling_that_is_none_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_weights_without_a_generation_expert_do_not_draw(told, held):
    bare = NanoOmni(config=CONFIGS["tiny"])
    with pytest.raises(ValueError, match="do not draw"):
        draw(bare, told[1], None, None, [0] * 4, ALONE, held=held)


def test_what_is_written_of_a_picture_is_well_formed(model, some):
    reader = Reader(model)
    nodes = reader.begin(some.prompt.tolist())
    seeds = [1, 2, 3, 4]
    plan = reader.write(nodes, [INDEX["<plan>"]], "</plan>", 0, 1.0, seeds, plans.PLAN_GRAMMAR)
    after = [one.node for one in plan]
    rolled = reader.write(after, plans.OPENING, "</view>", 0, 1.0, seeds, plans.ROLL_OUT_GRAMMAR)
    for one, grammar in (
        *((p, plans.PLAN_GRAMMAR) for p in plan),
        *((r, plans.ROLL_OUT_GRAMMAR) for r in rolled),
    ):
        assert all(word in may for word, may in zip(one.words[:-1], grammar.words, strict=True))
    again = reader.write(nodes[2:], [INDEX["<plan>"]], "</plan>", 0, 1.0, seeds[2:], plans.PLAN_GRAMMAR)
    assert [one.words for one in again] == [one.words for one in plan[2:]]


def test_reading_a_prompt_first_is_writing_after_it(model, some):
    """The memory's way and the plain one write the same."""
    reader = Reader(model)
    nodes = reader.begin(some.prompt.tolist())
    kept = reader.write(nodes, [INDEX["<think>"]], "</think>", 0, grammar=plans.THINK_GRAMMAR)
    x = model.embed(some.prompt)
    n = plans.PROMPT_LENGTH
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    with torch.no_grad():
        _, past = model.run(x, torch.arange(n), mask)
    opening = torch.full((4, 1), INDEX["<think>"])
    words, _, _ = write(model, opening, plans.THINK_LENGTH - 1, n, past, plans.THINK_GRAMMAR)
    assert [list(one.words[:-1]) for one in kept] == words[:, 1:].tolist()
    before = reader.prefilled
    reader.begin(some.prompt.tolist())
    assert reader.prefilled == before
