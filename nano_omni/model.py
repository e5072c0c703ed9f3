"""The nano omni model: a decoder-only Mixture of Transformers after BAGEL, for photos, text and poses.

Every layer holds an understanding expert and, if the configuration says so, a generation expert (its
own projections, norms and MLP); latents are routed to the second, everything else to the first, and all
tokens attend jointly under the rules of `masks`. Embedding, head and rotary positions are shared.

One function, `NanoOmni.run`, is training, prefill and cached decoding: with a past it continues, without
one it starts. A past is a tuple that is never changed, so branches share their prefix.

Departures from BAGEL: a convolutional stem in place of a ViT; its patches are named (a dense auxiliary loss)
and the names re-embedded with the word embeddings, and after the last layer they are named again by the
head's own words, so vision speaks the words of the text on both ends; relu^2 MLPs and no shared keys where
the configuration does not ask for them; sizes.
"""

import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file
from torch import Tensor, nn

from . import vocabulary
from .config import Config
from .latents import Ends, sin_cos_2d

Past = tuple[tuple[Tensor, Tensor], ...]  # per layer: keys and values (B, H, S, D)
CLASSES = 1 + len(vocabulary.OBJECTS)  # of patches: the room, then the objects


class Norm(nn.Module):
    """RMS norm over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


class Expert(nn.Module):
    """What one expert owns of a layer: norms, projections, MLP."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, size = config.width, config.width // config.heads
        shared = (config.kv_heads or config.heads) * size
        hidden = config.hidden or config.mlp * d
        self.size = size
        self.before_attention, self.before_mlp = Norm(d), Norm(d)
        self.query, self.key, self.value = (
            nn.Linear(d, width, bias=config.bias) for width in (d, shared, shared)
        )
        self.query_norm, self.key_norm = Norm(size), Norm(size)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, hidden, bias=False)
        self.gate = nn.Linear(d, hidden, bias=False) if config.gated else None
        self.down = nn.Linear(hidden, d, bias=False)
        for layer in (self.query, self.key, self.value, self.up, *([self.gate] if self.gate else [])):
            nn.init.normal_(layer.weight, std=d**-0.5)
        for layer in (self.out, self.down):  # a layer starts as the identity
            nn.init.zeros_(layer.weight)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, T, d) -> queries, keys, values (B, T, H, D) each; queries and keys normalised."""
        x = self.before_attention(x)
        q, k, v = (layer(x).unflatten(-1, (-1, self.size)) for layer in (self.query, self.key, self.value))
        return self.query_norm(q).to(v.dtype), self.key_norm(k).to(v.dtype), v

    def attended(self, x: Tensor) -> tuple[Tensor, ...]:
        """What attention found (B, T, d), projected."""
        return (self.out(x),)

    def mlp(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.before_mlp(x)
        wide = F.relu(self.up(x)).square() if self.gate is None else F.silu(self.gate(x)) * self.up(x)
        return (self.down(wide),)


class Block(nn.Module):
    """A layer of the Mixture of Transformers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.experts))

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None = None,
        generation: Tensor | int | None = None,
        keep: bool = True,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """(B, T, d) -> the same, and keys and values (B, H, S + T, D) of all that has been read.
        generation: see `NanoOmni.run`; a number if all tokens from that one on are generated."""
        q, k, v = (part.transpose(1, 2) for part in self._route("project", x, generation))  # (B, H, T, D)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = attention(q, k, v, mask)
        x = x + self._route("attended", y.transpose(1, 2).flatten(2), generation)[0]
        return x + self._route("mlp", x, generation)[0], (k, v) if keep else None

    def _route(self, part: str, x: Tensor, generation: Tensor | int | None) -> tuple[Tensor, ...]:
        """Each token through its own expert's `part`; generation as in `forward`, None if no token is."""
        understand = getattr(self.experts[0], part)
        if generation is None:
            return understand(x)
        if len(self.experts) == 1:
            raise ValueError("these weights have no generation expert: see NanoOmni.with_generation_expert")
        draw = getattr(self.experts[1], part)
        if isinstance(generation, int):
            if generation == 0:
                return draw(x)
            both = understand(x[:, :generation]), draw(x[:, generation:])
            return tuple(torch.cat(parts, 1) for parts in zip(*both, strict=True))
        own, other = (~generation).nonzero()[:, 0], generation.nonzero()[:, 0]
        back = torch.cat([own, other]).argsort()
        both = understand(x[:, own]), draw(x[:, other])
        return tuple(torch.cat(parts, 1)[:, back] for parts in zip(*both, strict=True))


class Stem(nn.Module):
    """Photos to patch features: convolutions that halve, each followed by a residual one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (3, *config.stem)
        self.halve = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.refine = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in config.stem)
        self.norms = nn.ModuleList(nn.GroupNorm(4, c) for c in config.stem)
        self.project = nn.Linear(config.stem[-1], config.width)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, S, S) floats around 0 -> (N, P, d), row by row."""
        x = photos.contiguous(memory_format=torch.channels_last)
        for halve, refine, norm in zip(self.halve, self.refine, self.norms, strict=True):
            x = F.gelu(norm(halve(x)))
            x = x + F.gelu(refine(x))
        return self.project(x.flatten(2).transpose(1, 2))


class Said(NamedTuple):
    """What a model says: logits (B, n, vocabulary) of the words asked for; of the patches of V photos, before
    reading, names (B, V, P, CLASSES) as logits and measures (B, V, P, 3), see `NanoOmni.see`; and after it,
    spoken (B, V, P, CLASSES), the logits that words have for the same names."""

    logits: Tensor
    names: Tensor
    measures: Tensor
    spoken: Tensor


class NanoOmni(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="unroller",
    license="apache-2.0",
    tags=["unified-multimodal", "spatial-reasoning", "procedural"],
):
    """See the module. `from_pretrained(folder)` and `save_pretrained(folder)` are huggingface_hub's."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.vocabulary < vocabulary.SIZE:
            raise ValueError(f"{vocabulary.SIZE} words do not fit a vocabulary of {config.vocabulary}")
        self.config = config
        d = config.width
        self.stem = Stem(config)
        self.embed = nn.Embedding(config.vocabulary, d)
        self.embed.weight.data[: vocabulary.SIZE] = vocabulary.smooth_embedding(d)
        self.name_patch = nn.Linear(d, CLASSES)  # which object, and
        # How far: log of z-depth in metres; and how the walls stand to the camera, an angle that repeats by
        # quarters of a circle: cosine and sine of four times the angle.
        self.measure_patch = nn.Linear(d, 3)
        self.embed_measures = nn.Linear(10, d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = Norm(d)
        self.head = nn.Linear(d, config.vocabulary, bias=False)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("grid", sin_cos_2d(config.grid, d), persistent=False)
        self.ends = Ends(d, config.draws_from_photos) if config.experts == 2 else None

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def see(self, photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Photos (B, V, 3, S, S) uint8 -> tokens (B, V, P, d), names (B, V, P, CLASSES) as logits, measures
        (B, V, P, 3): log-depth, cosine and sine."""
        shape = photos.shape[:2]
        pixels = photos.flatten(0, 1).to(self.head.weight.dtype) * (1 / 127.5) - 1
        x = self.stem(pixels)
        x = x + self.grid.to(x.dtype)
        names, measures = self.name_patch(x), self.measure_patch(x)
        said = names.float().softmax(-1).to(x.dtype) @ self._names(self.embed.weight).to(x.dtype)
        centres = torch.linspace(-0.5, 2.5, 8, device=x.device)
        ramp = torch.exp(-4 * (measures[..., :1].float() - centres).square()).to(x.dtype)
        x = x + said + self.embed_measures(torch.cat([ramp, measures[..., 1:].to(x.dtype)], dim=-1))
        x, names, measures = (y.unflatten(0, shape) for y in (x, names, measures))
        return x + self.tags(shape[1])[:, None].to(x.dtype), names, measures

    def _names(self, table: Tensor) -> Tensor:
        """The rows of what a patch can be, the room and every object: (CLASSES, d)."""
        room, first = vocabulary.INDEX["<room>"], vocabulary.OBJECT_0
        return torch.cat([table[room : room + 1], table[first : first + CLASSES - 1]])

    def tags(self, count: int) -> Tensor:
        """The words that number photos: (count, d)."""
        first = vocabulary.INDEX["<photo1>"]
        return self.embed.weight[first : first + count]

    def sequence(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """Embeddings in reading order: seen (B, V, P, d), tokens (B, T) -> (B, V (1 + P) + T, d).

        Each photo follows its tag; then the text.
        """
        batch, count = seen.shape[:2]
        tags = self.tags(count).to(seen.dtype).expand(batch, -1, -1)  # (B, V, d)
        photos = torch.cat([tags[:, :, None], seen], dim=2).flatten(1, 2)
        return torch.cat([photos, self.embed(tokens).to(seen.dtype)], dim=1)

    def run(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        past: Past | None = None,
        generation: Tensor | None = None,
        keep: bool = True,
    ) -> tuple[Tensor, Past]:
        """Embeddings (B, T, d) at positions (T,) after S tokens of past -> hidden states, new past.

        mask (T, S + T) bool, true where a token sees; None: all see all. generation (T,) bool. keep=False
        leaves the new past empty (training has no use for it). Where samples are at different places,
        positions may be (B, 1, T) and the mask (B, 1, T, S + T).
        """
        cos, sin = rotary(positions, self.config.width // self.config.heads, self.config.rope_base)
        now = []
        route: Tensor | int | None = generation
        if generation is not None:
            first = int((~generation).sum())
            route = first if bool(generation[first:].all()) else generation
        for k, block in enumerate(self.blocks):
            x, kept = block(x, cos, sin, mask, None if past is None else past[k], route, keep)
            if kept is not None:
                now.append(kept)
        return self.norm(x), tuple(now)

    def forward(
        self,
        photos: Tensor,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor,
        read: Tensor,
        latent: tuple[Tensor, Tensor] | None = None,
    ) -> "Said":
        """What it says of photos and the text after them at the places `read` (n,), and of each patch.

        latent: places (m,) to be run first, and places (k,) at which the hidden states of the last k of them
        stand in place of words.
        """
        seen, names, measures = self.see(photos)
        x = self.sequence(seen, tokens)
        if latent is not None:
            some, put = latent
            first, _ = self.run(x[:, some], positions[some], mask[some][:, some], keep=False)
            x = x.index_copy(1, put, first[:, -len(put) :].to(x.dtype))
        x, _ = self.run(x, positions, mask, keep=False)
        shape = seen.shape[1], 1 + seen.shape[2]  # each photo follows its tag
        patches = x[:, : shape[0] * shape[1]].unflatten(1, shape)[:, :, 1:]  # (B, V, P, d)
        return Said(self.head(x[:, read]), names, measures, patches @ self._names(self.head.weight).T)

    def with_generation_expert(self) -> "NanoOmni":
        """A copy with a generation expert that starts as a copy of the understanding one."""
        if self.config.experts == 2:
            raise ValueError("this model has a generation expert already")
        other = copy.deepcopy(self)
        # The mixin keeps what the constructor was given, for config.json.
        other.config = replace(self.config, experts=2, draws=())
        other._hub_mixin_config = other.config
        for block in other.blocks:
            experts: Any = block.experts
            experts.append(copy.deepcopy(experts[0]))
        other.ends = Ends(self.config.width).to(self.device)
        return other

    def to_be_taught(self, tasks: Sequence[str]) -> "NanoOmni":
        """A copy that draws `tasks`, of `config.TASKS`: what is new begins as nothing, and words that came
        after the weights as they come. Raises ValueError for other tasks."""
        other = copy.deepcopy(self) if self.config.experts == 2 else self.with_generation_expert()
        draws = tuple(dict.fromkeys((*other.config.draws, *tasks)))
        other.config = replace(other.config, draws=draws)
        other._hub_mixin_config = other.config
        assert other.ends is not None
        if other.config.draws_from_photos and other.ends.beside is None:
            ends = Ends(self.config.width, photos=True).to(self.device)
            ends.load_state_dict({**ends.state_dict(), **other.ends.state_dict()})
            other.ends = ends
        return other

    def count_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def load(folder: Path) -> NanoOmni:
    """Weights and configuration in a folder, as float32 and in evaluation mode: `from_pretrained` for folders
    alone, without a word on stdout. Raises OSError, ValueError, RuntimeError or safetensors' error."""
    model = NanoOmni(config=Config(**json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.float().eval()


def rotary(positions: Tensor, size: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., T, size / 2) for positions (..., T)."""
    rate = base ** (-torch.arange(size // 2, device=positions.device) / (size // 2))
    phase = positions[..., None] * rate
    return phase.cos(), phase.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (..., T, D): the halves are real and imaginary parts."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Queries (B, H, T, D) on keys and values (B, H', S, D). On CPUs in float32 where a training asks for
    bfloat16: its gradient is several times slower than that of float32."""
    group = k.shape[1] < q.shape[1]
    if q.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=group)
    with torch.autocast("cpu", enabled=False):
        q, k, wide = q.float(), k.float(), v.float()
        y = F.scaled_dot_product_attention(q, k, wide, attn_mask=mask, enable_gqa=group)
        return y.to(v.dtype)


def causal_mask(past: int, now: int, device: torch.device | str | None = None) -> Tensor:
    """(now, past + now) bool for text after a past that is all visible."""
    return torch.ones(now, past + now, dtype=torch.bool, device=device).tril(past)


class Grammar(NamedTuple):
    """What may be written: for each word in turn the words that it may be; those of `once` no second time."""

    words: tuple[Sequence[int], ...]
    once: Sequence[int] = ()


def allowed(logits: Tensor, said: Tensor, grammar: Grammar) -> Tensor:
    """Logits (B, vocabulary) of what may follow the words `said` (B, n); unchanged where the grammar ends."""
    if said.shape[1] >= len(grammar.words):
        return logits
    mask = torch.full_like(logits, -torch.inf)
    mask[:, list(grammar.words[said.shape[1]])] = 0.0
    if grammar.once and said.shape[1]:
        repeated = torch.zeros_like(mask, dtype=torch.bool).scatter(1, said, True)
        others = torch.ones(mask.shape[1], dtype=torch.bool, device=mask.device)
        others[list(grammar.once)] = False
        mask = mask.masked_fill(repeated & ~others, -torch.inf)
    return logits + mask


@torch.no_grad()
def write(
    model: NanoOmni,
    prompt: Tensor,
    length: int,
    position: int,
    past: Past,
    grammar: Grammar | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Past]:
    """Batched decoding with a cache: the likeliest words, or at a temperature above 0 drawn ones.

    prompt (B, n): words that open the segment; length: words in all; grammar: of those after the prompt.
    position: of the first of them; past: of what was read before. Returns all words (B, length), the logits
    after the last of them (B, vocabulary) and the past with the segment in it.
    """
    words, new = prompt, prompt
    while True:
        seen = past[0][0].shape[2]
        place = torch.arange(new.shape[1], device=model.device) + position + words.shape[1] - new.shape[1]
        mask = causal_mask(seen, new.shape[1], model.device) if new.shape[1] > 1 else None
        x, past = model.run(model.embed(new).to(past[0][0].dtype), place, mask, past)
        logits = model.head(x[:, -1])
        if words.shape[1] >= length:
            return words, logits, past
        may = logits if grammar is None else allowed(logits, words[:, prompt.shape[1] :], grammar)
        if temperature > 0:
            new = torch.multinomial((may.float() / temperature).softmax(-1), 1, generator=generator)
        else:
            new = may.argmax(-1, keepdim=True)
        words = torch.cat([words, new], dim=1)


def read_photos(model: NanoOmni, photos: Tensor, mask: Tensor, positions: Tensor) -> Past:
    """Prefill of photos (B, V, 3, S, S): their past. mask and positions are those of their segments."""
    seen, _, _ = model.see(photos)
    nothing = torch.empty(photos.shape[0], 0, dtype=torch.long, device=photos.device)
    return model.run(model.sequence(seen, nothing), positions, mask)[1]


def choice_logits(logits: Tensor, choices: Sequence[str]) -> Tensor:
    """Of the words that may be answered: (..., vocabulary) -> (..., len(choices))."""
    return logits[..., [vocabulary.INDEX[word] for word in choices]]
