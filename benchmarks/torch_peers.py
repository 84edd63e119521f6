"""PyTorch's BatchNorm + ReLU and timm's EvoNorms, timed on one device.

    python torch_peers.py [--seconds 2]

Needs torch and timm, neither TensorFlow nor evonorm_tf: benchmarks/gpu.py
copies this file beside its bundle. The same sizes as the bundle's: rows of
single layers, forward and backward, and ResNet-50 training steps in bf16
autocast, channels last; each eager and compiled. The state stays on the
device. Results: torch_peers.json.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent
SIZES, RESULTS = "sizes.json", "torch_peers.json"
# Full-size arrays read or written by the three-step form, both ways.
PASSES = 8
LAYERS = 20
NAMES = {"bn_relu": "batchnorm2d", "evonorm_b0": "evonormb0"}
NAMES |= {"evonorm_s0": "evonorms0"}


def layer(name: str, channels: int) -> Any:
    """One norm-act layer of timm, by our name."""
    from timm.layers import get_norm_act_layer

    return get_norm_act_layer(NAMES[name], act_layer="relu")(channels)


def layer_step(name: str, shape: list[int], device: str) -> Callable[[], None]:
    """Forward and backward through a row of layers, [N, H, W, C] sizes."""
    import torch

    n, h, w, c = shape
    like = {"device": device, "dtype": torch.bfloat16}
    x = torch.randn(n, c, h, w, **like)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    dy = torch.randn_like(x)
    row = torch.nn.Sequential(*(layer(name, c) for _ in range(LAYERS)))
    row = row.to(device).train()

    def step(model):
        x.grad = None
        with torch.autocast(device, torch.bfloat16):
            y = model(x)
        y.backward(dy.to(y.dtype))

    return lambda model=row: step(model)


def network_step(name: str, sizes: dict, device: str) -> Callable[[], None]:
    """A training step of timm's ResNet-50, SGD with momentum."""
    import timm
    import torch

    made = timm.create_model(
        "resnetv2_50",
        norm_layer=lambda c, **_: layer(name, c),
    )
    model = made.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), 1e-3, momentum=0.9, nesterov=True
    )
    side = sizes["size"]
    images = torch.randn(sizes["batch"], 3, side, side, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (sizes["batch"],), device=device)

    def step(model):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return lambda model=model: step(model)


def compiled(step: Callable) -> Callable[[], None]:
    """The same step with its model compiled."""
    import torch

    (model,) = step.__defaults__
    fast = torch.compile(model)
    return lambda: step(fast)


def seconds(step: Callable[[], None], device: str, budget: float) -> float:
    """Median seconds of a step."""
    import torch

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        step()
    wait()
    taken: list[float] = []
    while sum(taken) < budget or len(taken) < 5:
        start = time.perf_counter()
        step()
        wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Times all; a step that fails is reported and fails the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="a step")
    given = parser.parse_args()
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    what = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    sizes = json.loads((ROOT / SIZES).read_text())
    steps = {}
    for name in NAMES:
        steps["layer", name] = layer_step(name, sizes["shape"], device)
        steps["resnet50", name] = network_step(name, sizes, device)
    results = []
    for (kind, name), step in steps.items():
        for mode, run in (("eager", step), ("compiled", compiled(step))):
            taken = seconds(run, device, given.seconds)
            results.append(
                {
                    "run": f"torch-{mode}-{kind}-{name}",
                    "about": f"{kind}, {name}, {mode}, bf16",
                    "device": f"{device}: {what}",
                    "torch": torch.__version__,
                    "timm": timm.__version__,
                    "step_seconds": taken,
                }
            )
            print(f"{results[-1]['run']:40} {taken * 1e3:9.3f} ms", flush=True)
    (ROOT / RESULTS).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
