"""The networks as data: one row a resolution.

BigGAN and BigGAN-deep, appendix B of arXiv:1809.11096, as their author's
PyTorch code has them. Widths are multiples of `ch`, the base width. A
generator starts at 4x4 pixels and each of its stages doubles the side; the
first `pooled` stages of a discriminator halve it. A stage is one block, and
two bottleneck blocks in BigGAN-deep.
"""

import dataclasses

from evonorm_tf.errors import did_you_mean

START = 4  # Pixels a side that a generator starts from.


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A pair of networks.

    Attributes:
      resolution: pixels a side.
      generator: multiples of ch: what enters the first stage, then what
        leaves each.
      discriminator: multiples of ch that leave each stage; of a deep one,
        what leaves the first convolution comes before them.
      pooled: how many of the discriminator's stages halve the side.
      generator_attention: pixels a side after which it attends; 0 never.
      discriminator_attention: likewise.
      deep: bottleneck blocks, and the whole latent to each of them.
    """

    resolution: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    pooled: int
    generator_attention: int = 0
    discriminator_attention: int = 0
    deep: bool = False


ARCHITECTURES = {
    "biggan32": Architecture(
        resolution=32,
        generator=(4, 4, 4, 4),
        discriminator=(4, 4, 4, 4),
        pooled=2,
    ),
    "biggan64": Architecture(
        resolution=64,
        generator=(16, 16, 8, 4, 2),
        discriminator=(1, 2, 4, 8, 16),
        pooled=4,
        # The published code is of two minds at 64 px: half the side, as at
        # 128 px.
        generator_attention=32,
        discriminator_attention=32,
    ),
    "biggan128": Architecture(
        resolution=128,
        generator=(16, 16, 8, 4, 2, 1),
        discriminator=(1, 2, 4, 8, 16, 16),
        pooled=5,
        generator_attention=64,
        discriminator_attention=64,
    ),
    "biggan_deep128": Architecture(
        resolution=128,
        generator=(16, 16, 8, 4, 2, 1),
        discriminator=(1, 2, 4, 8, 16, 16),
        pooled=5,
        generator_attention=64,
        discriminator_attention=64,
        deep=True,
    ),
    "biggan256": Architecture(
        resolution=256,
        generator=(16, 16, 8, 8, 4, 2, 1),
        discriminator=(1, 2, 4, 8, 8, 16, 16),
        pooled=6,
        generator_attention=128,
        discriminator_attention=64,
    ),
}


def get(name: str) -> Architecture:
    """The row of that name.

    Raises:
      ValueError: there is none; names the nearest.
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"Unknown architecture. {did_you_mean(name, ARCHITECTURES)}"
            f"Received: architecture={name!r}"
        )
    return ARCHITECTURES[name]
