"""The shape of a nano omni model: one dataclass from two CPU cores to BAGEL's 7B."""

from dataclasses import dataclass

TASKS = ("generation", "editing", "depth", "novel_view")
"""What a generation expert can be taught to draw."""


@dataclass(frozen=True)
class Config:
    """Sizes of `model.NanoOmni`.

    width d and depth of the decoder; heads of queries (d / heads numbers each); kv_heads, of keys and
    values, each shared by a group of them (0: none is shared); mlp, hidden width over d, or hidden, the
    width itself; gated: SwiGLU in place of relu^2; bias of queries, keys and values; photo, pixels a side;
    stem, channels of the convolutions, one halving each, so a photo becomes (photo / 2^len(stem))^2 tokens;
    vocabulary, number of words; experts: 1, understanding only, or 2, a generation expert too. With 1
    nothing of the generation expert exists or is counted or saved; `NanoOmni.with_generation_expert` adds
    it as a copy, as BAGEL starts; draws: what that one was taught, of TASKS (nothing said: with 2 experts
    generation, without photos).
    """

    width: int = 96
    depth: int = 6
    heads: int = 4
    kv_heads: int = 0
    mlp: int = 3
    hidden: int = 0
    gated: bool = False
    bias: bool = False
    photo: int = 64
    stem: tuple[int, ...] = (24, 48, 96, 96)
    vocabulary: int = 448
    experts: int = 1
    rope_base: float = 1000.0
    draws: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stem", tuple(self.stem))  # JSON has no tuples
        taught = tuple(self.draws) or (TASKS[:1] if self.experts == 2 else ())
        if unknown := [task for task in taught if task not in TASKS]:
            raise ValueError(f"a model draws {', '.join(TASKS)}, not {', '.join(unknown)}")
        object.__setattr__(self, "draws", taught)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must split into {self.heads} heads of even size")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share the keys and values of {self.kv_heads}")
        if self.photo % 2 ** len(self.stem):
            raise ValueError(f"a photo of {self.photo} pixels cannot be halved {len(self.stem)} times")
        if self.experts not in (1, 2):
            raise ValueError(f"experts must be 1 or 2, not {self.experts}")
        if self.draws and self.experts != 2:
            raise ValueError(f"with 1 expert nothing is drawn, {', '.join(self.draws)} neither")

    @property
    def draws_from_photos(self) -> bool:
        return any(task != TASKS[0] for task in self.draws)

    @property
    def grid(self) -> int:
        """Tokens along a side of a photo."""
        return self.photo // 2 ** len(self.stem)


CONFIGS = {
    "tiny": Config(width=32, depth=2, heads=2, stem=(8, 8, 16, 16)),  # for tests
    "cpu": Config(width=96, depth=6, heads=4, stem=(24, 48, 96, 96)),
    "gpu": Config(width=256, depth=8, heads=8, stem=(48, 96, 192)),
    # The decoder of BAGEL-7B-MoT (Qwen2.5-7B, twice), after a convolutional stem. Never trained here.
    "bagel": Config(
        width=3584,
        depth=28,
        heads=28,
        kv_heads=4,
        hidden=18944,
        gated=True,
        bias=True,
        photo=224,
        stem=(192, 384, 768, 1152),
        vocabulary=152064,
        experts=2,
        rope_base=1e6,
    ),
}
