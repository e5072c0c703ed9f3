"""Reading with a memory: what was read once is continued, never read again.

What a model has read is a chain of nodes, one a segment: the photos, the question, each context. A node
holds the keys and values of its own segment, and is found again by the digest of everything up to it. So
many questions share their photos, many contexts their question, and what the model has written is there
already when it is read back as context. `prefilled`, `reused` and `written` count the tokens.

Chains of about one length are worked on as one batch. Random choices are keyed by (seed, position), so what
a sample writes does not depend on its batch mates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from xxhash import xxh3_128_digest

from .language import LATENTS
from .masks import attention_mask, photo_segments, positions
from .model import Grammar, NanoOmni, allowed, causal_mask
from .nodes import Batch, Look, Node, apart, batches
from .vocabulary import INDEX, WRITABLE
from .world.randomness import uniform

Given = Sequence[int] | Tensor
"""Words, or hidden states (n, d)."""

SETTLED = 4096  # of what is written for certain, so many are remembered


@dataclass(frozen=True)
class Written:
    """What was written: words without the opening one, closing one included; their log-probability."""

    node: Node
    words: tuple[int, ...]
    log_probability: float


class Reader:
    """A model and what it has read. max_bytes: of keys and values that are kept; the oldest go first."""

    def __init__(self, model: NanoOmni, max_bytes: int = 512 << 20) -> None:
        self.model = model.eval()
        self.max_bytes = max_bytes
        self.bytes = 0
        self.prefilled = self.reused = self.written = 0
        self._nodes: OrderedDict[bytes, Node] = OrderedDict()
        self._settled: OrderedDict[bytes, Written] = OrderedDict()

    @torch.no_grad()
    def look(self, photos: Sequence[Tensor]) -> list[Node]:
        """Photos (V, 3, S, S) uint8, a tensor a sample -> their nodes."""
        keys = [xxh3_128_digest(bytes([len(p)]) + p.cpu().numpy().tobytes()) for p in photos]
        nodes = self._known(keys)
        fresh = {key: p for key, p in zip(keys, photos, strict=True) if key not in nodes}
        for count in dict.fromkeys(len(p) for p in fresh.values()):
            some = {key: p for key, p in fresh.items() if len(p) == count}
            for node in self._prefill_photos(list(some), torch.stack(list(some.values()))):
                nodes[node.key] = self._keep(node)
        return [nodes[key] for key in keys]

    def _prefill_photos(self, keys: list[bytes], photos: Tensor) -> list[Node]:
        model = self.model
        tree = photo_segments(model.config.grid**2, photos.shape[1])
        place, mask = positions(tree).to(model.device), attention_mask(tree).to(model.device)
        seen, names, _ = model.see(photos.to(model.device))
        nothing = torch.empty(len(keys), 0, dtype=torch.long, device=model.device)
        past = model.run(model.sequence(seen, nothing), place, mask)[1]
        most = names.float().softmax(-1).amax(2)  # (B, V, C)
        features = seen.mean(2) - model.tags(photos.shape[1])  # (B, V, d)
        self.prefilled += len(keys) * len(place)
        return [
            Node(key, None, kept, int(place[-1]) + 1, Look(most[i], features[i]))
            for i, (key, kept) in enumerate(zip(keys, apart(past, [len(place)] * len(keys)), strict=True))
        ]

    @torch.no_grad()
    def begin(self, given: Sequence[Sequence[int]]) -> list[Node]:
        """Words with no photos before them, a prompt's for instance -> their nodes."""
        keys = [xxh3_128_digest(b"words" + _bytes(words)) for words in given]
        nodes = self._known(keys)
        fresh = {key: words for key, words in zip(keys, given, strict=True) if key not in nodes}
        if fresh:
            x = pad_sequence([self._embedded(words) for words in fresh.values()], batch_first=True)
            most, counts = x.shape[1], [len(words) for words in fresh.values()]
            place = torch.arange(most, device=x.device)
            past = self.model.run(x, place, causal_mask(0, most, x.device))[1]
            self.prefilled += sum(counts)
            for key, kept, count in zip(fresh, apart(past, counts), counts, strict=True):
                nodes[key] = self._keep(Node(key, None, kept, count, None))
        return [nodes[key] for key in keys]

    @torch.no_grad()
    def read(self, nodes: Sequence[Node], given: Sequence[Given]) -> list[Node]:
        """Each node continued by words, or by hidden states (n, d), that are given."""
        keys = [_continued(node, said) for node, said in zip(nodes, given, strict=True)]
        known = self._known(keys)
        fresh: dict[bytes, tuple[Node, Given]] = {}
        for key, node, said in zip(keys, nodes, given, strict=True):
            if key not in known:
                fresh.setdefault(key, (node, said))
        items = list(fresh.items())
        for group in batches([(node, len(said)) for node, said in fresh.values()]):
            some = [items[i] for i in group]
            batch = Batch([node for _, (node, _) in some])
            embedded = [self._embedded(said) for _, (_, said) in some]
            batch.run(self.model, pad_sequence(embedded, batch_first=True))  # (B, n, d)
            counts = [len(said) for said in embedded]
            self.prefilled += sum(counts)
            for (key, (node, _)), kept, count in zip(some, batch.added(counts), counts, strict=True):
                known[key] = self._keep(Node(key, node, kept, node.position + count, node.look))
        return [known[key] for key in keys]

    @torch.no_grad()
    def read_latents(self, nodes: Sequence[Node], latents: Sequence[Tensor]) -> list[Node]:
        """Each node continued by a picture as clean latents (TOKENS, NUMBERS), through the generation expert.
        Raises ValueError for weights that have none."""
        model = self.model
        if model.ends is None:
            raise ValueError("these weights have no generation expert: they read no latents")
        keys = [
            xxh3_128_digest(node.key + b"latents" + own.float().cpu().numpy().tobytes())
            for node, own in zip(nodes, latents, strict=True)
        ]
        known = self._known(keys)
        fresh = {key: i for i, key in enumerate(keys) if key not in known}
        items = list(fresh.items())
        for group in batches([(nodes[i], 0) for i in fresh.values()]):
            some = [items[k] for k in group]
            batch = Batch([nodes[i] for _, i in some])
            clean = torch.stack([latents[i] for _, i in some]).to(model.head.weight)  # (B, T, n)
            x = model.ends.embed(clean, clean.new_zeros(len(some))).tokens
            count = clean.shape[1]
            batch.run(model, x, generation=torch.ones(count, dtype=torch.bool, device=model.device))
            self.prefilled += len(some) * count
            for (key, i), kept in zip(some, batch.added([count] * len(some)), strict=True):
                node = nodes[i]
                known[key] = self._keep(Node(key, node, kept, node.position + 1, node.look))
        return [known[key] for key in keys]

    def _embedded(self, given: Given) -> Tensor:
        """(n, d)."""
        if isinstance(given, Tensor):
            return given.to(self.model.head.weight)
        return self.model.embed(torch.tensor(given, device=self.model.device))

    @torch.no_grad()
    def hidden(self, nodes: Sequence[Node]) -> list[Tensor]:
        """What the model makes of LATENTS more words that say nothing: hidden states (LATENTS, d)."""
        silence = self._embedded([INDEX["<latent>"]] * LATENTS)
        found: dict[int, Tensor] = {}
        for group in batches([(node, 0) for node in nodes]):
            some = [nodes[i] for i in group]
            x = Batch(some).run(self.model, silence.expand(len(some), -1, -1))
            self.written += len(some) * LATENTS
            found.update(zip(group, x.unbind(0), strict=True))
        return [found[i] for i in range(len(nodes))]

    def settled(
        self, nodes: Sequence[Node], opening: Sequence[int], closing: str, grammar: Grammar
    ) -> list[Written]:
        """What the model writes there where nothing is left to chance: written once, then remembered."""
        keys = [_continued(node, opening) for node in nodes]
        missing = {key: node for key, node in zip(keys, nodes, strict=True) if key not in self._settled}
        if missing:
            written = self.write(list(missing.values()), opening, closing, 0, grammar=grammar)
            self._settled.update(zip(missing, written, strict=True))
        found: list[Written] = []
        for key in keys:
            self._settled.move_to_end(key)
            found.append(self._settled[key])
            if key not in missing:
                self.reused += found[-1].node.kept.shape[3]
        while len(self._settled) > SETTLED:
            self._settled.popitem(last=False)
        return found

    @torch.no_grad()
    def write(
        self,
        nodes: Sequence[Node],
        opening: Sequence[int],
        closing: str,
        most: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        grammar: Grammar | None = None,
    ) -> list[Written]:
        """Each node continued by what the model writes after the words `opening`, up to `closing` or `most`
        words, of which the last is then `closing`. With a grammar just as many words as it has, and
        `closing`; without one any of vocabulary.WRITABLE may be written."""
        if grammar is not None:
            most = len(grammar.words) + 1
        drawn = torch.tensor(seeds if seeds is not None else [0] * len(nodes), device=self.model.device)
        found: dict[int, Written] = {}
        for group in batches([(node, 0) for node in nodes]):
            some = [nodes[i] for i in group]
            tags = tuple(opening), INDEX[closing]
            written = self._write(some, tags, most, temperature, drawn[group], grammar)
            found.update(zip(group, written, strict=True))
        return [found[i] for i in range(len(nodes))]

    def _write(
        self,
        nodes: list[Node],
        tags: tuple[tuple[int, ...], int],
        most: int,
        temperature: float,
        seeds: Tensor,
        grammar: Grammar | None,
    ) -> list[Written]:
        opening, closing = tags
        model, batch = self.model, Batch(nodes)
        places = [node.position for node in nodes]
        new = torch.tensor(opening, device=model.device).expand(len(nodes), -1)
        words, total = new[:, :0], torch.zeros(len(nodes), device=model.device)
        done = torch.zeros(len(nodes), dtype=torch.bool, device=model.device)
        free = _only((*WRITABLE, closing), total.new_empty(model.config.vocabulary))
        while True:
            already = len(opening) - 1 + words.shape[1] if words.shape[1] else 0
            x = batch.run(model, model.embed(new), already)
            if bool(done.all()):  # the closing word has been read, too
                break
            logits = model.head(x[:, -1]).float()
            if grammar is None:
                logits = logits + free
            else:
                logits = allowed(logits, words, grammar)
            if words.shape[1] + 1 >= most:
                new = torch.full_like(new, closing)
            else:
                noise = self._noise(seeds, [place + words.shape[1] for place in places], temperature)
                new = (logits / (temperature or 1.0) + noise).argmax(-1, keepdim=True)
            said = logits.log_softmax(-1).gather(1, new)[:, 0]
            total = total + said.masked_fill(done, 0.0)
            words = torch.cat([words, new], 1)
            done = done | (new[:, 0] == closing)
        ends = (words == closing).int().argmax(1) + 1  # (B,)
        counts = [len(opening) + end for end in ends.tolist()]
        results: list[Written] = []
        for node, said, count, p, kept in zip(
            nodes, words.tolist(), counts, total.tolist(), batch.added(counts), strict=True
        ):
            own = tuple(said[: count - len(opening)])
            self.written += len(own)
            key = _continued(node, (*opening, *own))
            after = Node(key, node, kept, node.position + count, node.look)
            results.append(Written(self._keep(after), own, p))
        return results

    def _noise(self, seeds: Tensor, positions: Sequence[int], temperature: float) -> Tensor | float:
        """(B, vocabulary)."""
        if temperature <= 0:
            return 0.0
        u = torch.empty(len(seeds), self.model.config.vocabulary, device=seeds.device)
        where = torch.tensor(positions, device=seeds.device)
        for position in set(positions):
            here = where == position
            u[here] = uniform(seeds[here], f"write.{position}", u.shape[1], 1e-6, 1.0)
        return -(-u.log()).log()  # Gumbel: the largest is a draw

    @torch.no_grad()
    def answer(self, nodes: Sequence[Node], choices: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-probabilities (n,) of the words each sample may answer with, which sum to 1 among them."""
        said = {}
        for group in batches([(node, 0) for node in nodes]):
            some = [nodes[i] for i in group]
            asked = self._embedded([INDEX["<answer>"]]).expand(len(some), -1, -1)
            x = Batch(some).run(self.model, asked)
            self.prefilled += len(some)
            for i, logits in zip(group, self.model.head(x[:, -1]).float(), strict=True):
                said[i] = logits[list(choices[i])].log_softmax(0)
        return [said[i] for i in range(len(nodes))]

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Node]:
        """Those of them that were read before."""
        known: dict[bytes, Node] = {}
        for key in keys:
            if key in self._nodes and key not in known:
                self._nodes.move_to_end(key)
                known[key] = self._nodes[key]
                self.reused += known[key].kept.shape[3]
        return known

    def _keep(self, node: Node) -> Node:
        old = self._nodes.pop(node.key, None)
        self._nodes[node.key] = node
        self.bytes += node.kept.nbytes - (0 if old is None else old.kept.nbytes)
        while self.bytes > self.max_bytes and len(self._nodes) > 1:
            _, gone = self._nodes.popitem(last=False)
            self.bytes -= gone.kept.nbytes
        return node


def _only(words: Sequence[int], logits: Tensor) -> Tensor:
    """To be added to logits (..., vocabulary) so that no other words are chosen."""
    allowed = torch.full_like(logits, -torch.inf)
    allowed[..., list(words)] = 0.0
    return allowed


def _continued(node: Node, given: Given) -> bytes:
    if isinstance(given, Tensor):
        return xxh3_128_digest(node.key + b"hidden" + given.float().cpu().numpy().tobytes())
    return xxh3_128_digest(node.key + _bytes(given))


def _bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)
