"""The image-synthesis head: BigGAN whose generator's norm is one flag."""

from evonorm_tf import commands

commands.start(
    {
        "gan.check": "gan.data check",
        "gan.run": "gan.train",
    }
)
