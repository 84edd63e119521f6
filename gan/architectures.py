"""The networks as data: one entry per resolution.

BigGAN and BigGAN-deep, appendix B of arXiv:1809.11096, as in their author's
PyTorch code. Widths are multiples of `ch`, the base width. A generator starts
at 4x4 pixels and each of its stages doubles the side; the first `pooled` stages
of a discriminator halve it. A stage is one block, or two bottleneck blocks in
BigGAN-deep.
"""

import dataclasses

from evonorm_tf.errors import did_you_mean

START = 4  # Side in pixels at which a generator starts.


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A pair of networks.

    Attributes:
      resolution: side in pixels.
      generator: multiples of ch: the input of the first stage, then the output
        of each.
      discriminator: multiples of ch at the output of each stage; for a deep
        one, preceded by the output of the first convolution.
      pooled: number of the discriminator's stages that halve the side.
      generator_attention: side in pixels after which it has attention; 0 for
        none.
      discriminator_attention: likewise.
      deep: whether it has bottleneck blocks, each with the whole latent.
    """

    resolution: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    pooled: int
    generator_attention: int = 0
    discriminator_attention: int = 0
    deep: bool = False


_BIGGAN128 = Architecture(
    resolution=128,
    generator=(16, 16, 8, 4, 2, 1),
    discriminator=(1, 2, 4, 8, 16, 16),
    pooled=5,
    generator_attention=64,
    discriminator_attention=64,
)
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
        # The published code is inconsistent at 64 px; half the side is used,
        # as at 128 px.
        generator_attention=32,
        discriminator_attention=32,
    ),
    "biggan128": _BIGGAN128,
    "biggan_deep128": dataclasses.replace(_BIGGAN128, deep=True),
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
    """Returns the architecture with a name.

    Raises:
      ValueError: if there is none; names similar ones.
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"Unknown architecture. {did_you_mean(name, ARCHITECTURES)}"
            f"Received: architecture={name!r}"
        )
    return ARCHITECTURES[name]
