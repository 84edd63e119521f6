"""The image-synthesis head: BigGAN whose generator's norm is one flag."""
