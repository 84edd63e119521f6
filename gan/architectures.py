"""The networks as data: one row a resolution.

BigGAN, appendix B of arXiv:1809.11096, as its author's PyTorch code has it.
Widths are multiples of `ch`, the base width. A generator starts at 4x4 pixels
and each of its blocks doubles the side; the first `pooled` blocks of a
discriminator halve it. BigGAN-deep has other blocks, and needs rows of its
own.
"""

import dataclasses

from evonorm_tf.training import config

START = 4  # Pixels a side that a generator starts from.


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A pair of networks.

    Attributes:
      resolution: pixels a side.
      generator: multiples of ch: what enters the first block, then what
        leaves each.
      discriminator: multiples of ch that leave each block.
      pooled: how many of the discriminator's blocks halve the side.
      generator_attention: pixels a side after which it attends; 0 never.
      discriminator_attention: likewise.
    """

    resolution: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    pooled: int
    generator_attention: int = 0
    discriminator_attention: int = 0


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
            f"Unknown architecture. {config.nearest(name, ARCHITECTURES)}. "
            f"Received: architecture={name!r}"
        )
    return ARCHITECTURES[name]
