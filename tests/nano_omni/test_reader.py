"""Reading with a memory: chains of any lengths are worked on together and come out as one by one."""

import itertools

import pytest
import torch
from tiny.nano_models import with_both_experts

from nano_omni import nodes as nodes_of
from nano_omni.config import CONFIGS
from nano_omni.latents import NUMBERS, TOKENS
from nano_omni.model import Grammar
from nano_omni.nodes import batches
from nano_omni.reader import Reader
from nano_omni.vocabulary import INDEX, WRITABLE

SIDE = CONFIGS["tiny"].photo
WORDS = [k for k in range(20, 60) if k in set(WRITABLE)]


@pytest.fixture(scope="module")
def model():
    return with_both_experts(std=0.2)


def photos(seed, count=2):
    return torch.randint(
        0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture
def chains():
    """(how the photos are seeded, contexts): from none to three, of all lengths."""
    lengths = [(), (3,), (9,), (10,), (11, 2), (4, 4, 5), (24,), (2, 2), (3, 3), (1,)]
    return [(k % 3, [WORDS[:n] for n in some]) for k, some in enumerate(lengths)]


def read(reader, chains):
    nodes = reader.look([photos(seed) for seed, _ in chains])
    for k in range(3):
        longer = [i for i, (_, contexts) in enumerate(chains) if k < len(contexts)]
        more = reader.read([nodes[i] for i in longer], [chains[i][1][k] for i in longer])
        for i, node in zip(longer, more, strict=True):
            nodes[i] = node
    return nodes


def both(model, chains, work):
    """What `work` makes of all chains together, and of each alone."""
    reader = Reader(model)
    together = work(reader, read(reader, chains), list(range(len(chains))))
    alone = []
    for i, chain in enumerate(chains):
        reader = Reader(model)
        alone += work(reader, read(reader, [chain]), [i])
    return zip(together, alone, strict=True)


def test_answers_do_not_depend_on_who_is_read_with_whom(model, chains):
    choices = [WORDS[k : k + 4] for k in range(len(chains))]
    for one, other in both(model, chains, lambda r, n, i: r.answer(n, [choices[k] for k in i])):
        assert torch.allclose(one, other, atol=1e-5)
        assert one.exp().sum() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_what_is_written_does_not_depend_on_it_either(model, chains, temperature):
    def write(reader, nodes, which):
        opening = [INDEX["<think>"]]
        return reader.write(nodes, opening, "</think>", 12, temperature, [100 + k for k in which])

    said = set()
    for one, other in both(model, chains, write):
        assert one.words == other.words
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
        assert one.node.key == other.node.key and one.node.position == other.node.position
        assert torch.allclose(one.node.kept, other.node.kept, atol=1e-5)
        assert one.node.kept.shape[3] == 1 + len(one.words)
        said.add(one.words)
    assert len(said) > 1


def test_a_grammar_holds_for_chains_of_every_length(model, chains):
    grammar = Grammar((WORDS[:5],) * 3, once=WORDS[:5])
    for one, other in both(
        model, chains, lambda r, n, i: r.write(n, [INDEX["<caption>"]], "</caption>", 0, grammar=grammar)
    ):
        assert one.words == other.words
        assert len(set(one.words[:3])) == 3 and one.words[3] == INDEX["</caption>"]


def test_hidden_states_and_latents_too(model, chains):
    for one, other in both(model, chains, lambda r, n, i: r.hidden(n)):
        assert torch.allclose(one, other, atol=1e-5)
    clean = torch.randn(len(chains), TOKENS, NUMBERS, generator=torch.Generator().manual_seed(0))
    for one, other in both(model, chains, lambda r, n, i: r.read_latents(n, clean[i].unbind())):
        assert torch.allclose(one.kept, other.kept, atol=1e-5)
        assert one.kept.shape[3] == TOKENS and one.position == other.position


def test_prompts_of_every_length_begin_together(model):
    prompts = [WORDS[:n] for n in (1, 5, 3, 12, 5)]
    together = Reader(model).begin(prompts)
    for words, one in zip(prompts, together, strict=True):
        (other,) = Reader(model).begin([words])
        assert one.key == other.key and one.position == other.position == len(words)
        assert torch.allclose(one.kept, other.kept, atol=1e-5)
    assert together[1] is together[4]


def test_every_token_is_read_once_and_none_of_the_filling_is_counted(model, chains):
    reader = Reader(model)
    nodes = read(reader, chains)
    cameras = 3 * 2 * (1 + CONFIGS["tiny"].grid ** 2)
    distinct = {(seed, tuple(itertools.chain(*contexts))) for seed, contexts in chains}
    assert len(distinct) == len(chains)
    words = sum(len(words) for _, contexts in chains for words in contexts)
    assert reader.prefilled == cameras + words
    assert reader.bytes == sum(node.kept.nbytes for node in reader._nodes.values())
    assert read(reader, chains) == nodes and reader.prefilled == cameras + words


def test_batches_hold_everybody_once_and_waste_little(model, chains, monkeypatch):
    things = [(node, k % 4 * 7) for k, node in enumerate(read(Reader(model), chains))]
    found = list(batches(things))
    assert sorted(itertools.chain(*found)) == list(range(len(things)))
    for batch in found:
        for sizes in ([things[i][0].length for i in batch], [things[i][1] for i in batch]):
            assert max(sizes) <= nodes_of.SPREAD * min(sizes) + nodes_of.SLACK
    token = things[0][0].kept[..., :1, :].nbytes
    monkeypatch.setattr(nodes_of, "BATCH_BYTES", 100 * token)
    small = list(batches(things))
    assert sorted(itertools.chain(*small)) == list(range(len(things)))
    for batch in small:
        most = max(things[i][0].length for i in batch) + max(things[i][1] for i in batch)
        assert len(batch) == 1 or len(batch) * most <= 100
    assert list(batches([])) == []
