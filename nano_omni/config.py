"""The shape of a nano omni model: one dataclass for all sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Sizes of `model.NanoOmni`.

    width d and depth of the decoder; heads (d / heads numbers each); mlp, hidden width over d; photo,
    pixels a side; stem, channels of the convolutions, one halving each, so a photo becomes
    (photo / 2^len(stem))^2 tokens; vocabulary, number of words; experts: 1, understanding only, or 2,
    a generation expert too. With 1 nothing of the generation expert exists or is counted or saved;
    `NanoOmni.with_generation_expert` adds it as a copy, as BAGEL starts.
    """

    width: int = 96
    depth: int = 6
    heads: int = 4
    mlp: int = 3
    photo: int = 64
    stem: tuple[int, ...] = (24, 48, 96, 96)
    vocabulary: int = 224
    experts: int = 1
    rope_base: float = 1000.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stem", tuple(self.stem))  # JSON has no tuples
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must split into {self.heads} heads of even size")
        if self.photo % 2 ** len(self.stem):
            raise ValueError(f"a photo of {self.photo} pixels cannot be halved {len(self.stem)} times")
        if self.experts not in (1, 2):
            raise ValueError(f"experts must be 1 or 2, not {self.experts}")

    @property
    def grid(self) -> int:
        """Tokens along a side of a photo."""
        return self.photo // 2 ** len(self.stem)


CONFIGS = {
    "tiny": Config(width=32, depth=2, heads=2, stem=(8, 8, 16, 16)),  # for tests
    "cpu": Config(width=96, depth=6, heads=4, stem=(24, 48, 96, 96)),
    "gpu": Config(width=256, depth=8, heads=8, stem=(48, 96, 192)),
}
