"""Packaging: the wheel ships `evonorm_tf` alone.

The heads (classification, detection, gan) run from a checkout: packages of
such names are rude guests in site-packages.
"""

import pathlib
import re
import runpy

import setuptools

ROOT = pathlib.Path(__file__).parent
INIT = (ROOT / "evonorm_tf" / "__init__.py").read_text()
VERSION = re.search(r'^__version__ = "(.+)"', INIT, re.M).group(1)
VERSIONS = runpy.run_path(str(ROOT / "evonorm_tf" / "versions.py"))
PYTHON = VERSIONS["PYTHON"]
LEAST = {name: tested.first for name, tested in VERSIONS["TESTED"].items()}

# The heads' networks, loops and data: the Model Garden and what it reads.
VISION = [
    "tf-models-official==2.20.0",
    "tensorflow-datasets",
    "keras-cv",
    "pycocotools",
    "faster-coco-eval",
    "ijson",
    "scikit-learn",
    "matplotlib",
    "rich",
    "standard-imghdr; python_version >= '3.13'",
    *(f"{name}{tested}" for name, (tested, _) in VERSIONS["GARDEN"].items()),
]
EXTRAS = {
    # Not a requirement: what a machine has, tensorflow-cpu or a TPU's, stays.
    "tensorflow": [f"tensorflow>={LEAST['tensorflow']}"],
    # For a CPU; jax[cuda13] and jax[tpu] are for other devices.
    "jax": ["jax"],
    "vision": VISION,
    "gan": [*VISION, "scipy"],
    "search": [
        f"tf_keras>={LEAST['tf_keras']}",
        "tensorflow-datasets",
        "scikit-learn",
        "matplotlib",
        "pyyaml",
        "rich",
        "ray",
    ],
    "export": ["tf2onnx==1.17.0", "onnx", "onnxruntime", "safetensors"],
    "tpu": ["jax", "jaxlib", "libtpu"],
    "docs": [
        "mkdocs",
        "mkdocs-material",
        "mkdocs-jupyter",
        "mkdocstrings[python]",
    ],
    "dev": [
        "pytest",
        "pytest-xdist",
        "hypothesis",
        "portpicker",
        "psutil",
        "ruff",
        "codespell",
        "build",
    ],
}
FIRST, END = (int(v.split(".")[1]) for v in (PYTHON.first, PYTHON.end))

setuptools.setup(
    name="evonorm-tf",
    version=VERSION,
    description="EvoNorm layers (arXiv:2004.02967) for TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=f">={PYTHON.first}",
    packages=setuptools.find_packages(include=["evonorm_tf", "evonorm_tf.*"]),
    package_data={
        "evonorm_tf": ["py.typed"],
        "evonorm_tf.search": ["configs/*.yaml"],
    },
    install_requires=[f"keras>={LEAST['keras']}", "numpy"],
    extras_require=EXTRAS,
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        *(
            f"Programming Language :: Python :: 3.{minor}"
            for minor in range(FIRST, END)
        ),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
