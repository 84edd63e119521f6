"""EvoNorm layers (arXiv:2004.02967) for Keras models.

    import evonorm_tf
    x = evonorm_tf.NormAct("evonorm_s0")(x)    # Keras 3
    model = evonorm_tf.create_model("resnet50", norm_act="evonorm_s0")

`evonorm_tf.legacy` has the same layers for tf_keras. Submodules are imported
on first use, so `import evonorm_tf` needs neither Keras. If a Keras is already
imported, its layers are registered immediately, because Keras can only load a
saved model if the classes of its layers are registered.
"""

import importlib
import sys
from typing import Any

from evonorm_tf import commands

__version__ = "0.1.0"

_EXPORTS = {
    "NormAct": "layers",
    "norm_act": "layers",
    "EvoNormB0": "layers",
    "EvoNormB1": "layers",
    "EvoNormB2": "layers",
    "EvoNormS0": "layers",
    "EvoNormS1": "layers",
    "EvoNormS2": "layers",
    "create_model": "models",
    "list_models": "models",
    "convert": "conversion",
    "recalibrate": "conversion",
    "recommend": "choosing",
    "export": "exporting",
    "names": "catalog",
    "configure": "ops.settings",
    "using": "ops.settings",
}
_MODULES = (
    "catalog",
    "choosing",
    "conversion",
    "efficientnet_lite",
    "exporting",
    "graphs",
    "layers",
    "legacy",
    "models",
    "nets",
    "ops",
    "preflight",
    "state_dict",
    "timm",
)

_LAYERS = {"keras": "layers", "tf_keras": "legacy"}

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _EXPORTS:
        module = importlib.import_module(f"{__name__}.{_EXPORTS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_EXPORTS, *_MODULES, "__version__"])


commands.start()
for _keras, _layers in _LAYERS.items():
    if sys.modules.get(_keras) is not None:
        importlib.import_module(f"{__name__}.{_layers}")
