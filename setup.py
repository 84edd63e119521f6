"""Packaging: the wheel ships `evonorm_tf` alone.

The heads (classification, detection, gan) run from a checkout: packages of
such names are rude guests in site-packages.
"""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
INIT = (ROOT / "evonorm_tf" / "__init__.py").read_text()
VERSION = re.search(r'^__version__ = "(.+)"', INIT, re.M).group(1)

# The heads' networks, loops and data: the Model Garden and what it reads.
VISION = [
    "tf-models-official==2.20.0",
    "tf_keras==2.20.1",
    "tensorflow-datasets",
    "keras-cv",
    "pycocotools",
    "faster-coco-eval",
    "scikit-learn",
    "matplotlib",
    "rich",
    "numpy<2.4",
    "Pillow<13",
    "opencv-python-headless<5",
    "protobuf<7",
    "setuptools<81",
]
EXTRAS = {
    "vision": VISION,
    "gan": [*VISION, "scipy"],
    "search": [*VISION, "ray"],
    "export": ["tf2onnx==1.17.0", "onnx", "onnxruntime", "safetensors"],
    "tpu": ["jax", "jaxlib", "libtpu"],
    "dev": ["pytest", "pytest-xdist", "portpicker", "ruff", "build"],
}

setuptools.setup(
    name="evonorm-tf",
    version=VERSION,
    description="EvoNorm layers (arXiv:2004.02967) for TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.12",
    packages=setuptools.find_packages(include=["evonorm_tf", "evonorm_tf.*"]),
    package_data={"evonorm_tf": ["py.typed"]},
    install_requires=["tensorflow>=2.20,<2.21"],
    extras_require=EXTRAS,
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
