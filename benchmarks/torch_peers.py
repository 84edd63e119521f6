"""PyTorch's BatchNorm + ReLU and timm's EvoNorms: part `torch` of gpu.py.

This needs torch and timm, but neither TensorFlow nor evonorm_tf. The sizes are
those of the other parts: several layers in a row, forward and backward, and
training steps of a network in bf16 autocast, channels last; each eager and
compiled.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

BASELINE = "bn_relu"
NAMES = {BASELINE: "batchnorm2d", "evonorm_b0": "evonormb0"}
NAMES |= {"evonorm_s0": "evonorms0"}
MODES = ("eager", "compiled")


def layer(name: str, channels: int) -> Any:
    """Returns one norm-act layer of timm, by our name."""
    from timm.layers import get_norm_act_layer

    return get_norm_act_layer(NAMES[name], act_layer="relu")(channels)


def layers_step(
    name: str, sizes: dict[str, Any], device: str
) -> tuple[Any, Callable[[Any], None]]:
    """Builds several equal layers, and their forward and backward pass.

    Args:
      name: a key of NAMES.
      sizes: see benchmarks/gpu.py.
      device: "cuda" or "cpu".

    Returns:
      The model, and a function of it.
    """
    import torch

    n, h, w, c = sizes["shape"]
    x = torch.randn(n, c, h, w, device=device, dtype=torch.bfloat16)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    dy = torch.randn_like(x)
    made = [layer(name, c) for _ in range(sizes["layers"])]
    model = torch.nn.Sequential(*made).to(device).train()

    def step(model):
        x.grad = None
        with torch.autocast(device, torch.bfloat16):
            y = model(x)
        y.backward(dy.to(y.dtype))

    return model, step


def network_step(
    name: str, sizes: dict[str, Any], device: str
) -> tuple[Any, Callable[[Any], None]]:
    """Builds timm's pre-activation ResNet-50 and its training step.

    Args:
      name: a key of NAMES.
      sizes: see benchmarks/gpu.py; of the network, batch and size.
      device: "cuda" or "cpu".

    Returns:
      The model, and a function of it: SGD with momentum.
    """
    import timm
    import torch

    made = timm.create_model(
        "resnetv2_50", norm_layer=lambda c, **_: layer(name, c)
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

    return model, step


KINDS = {"layers": layers_step, "network": network_step}


def milliseconds(
    step: Callable[[Any], None], model: Any, device: str, rounds: int
) -> float:
    """Returns the median time of a step, after three warm-up steps."""
    import torch

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    taken: list[float] = []
    for _ in range(3 + rounds):
        start = time.perf_counter()
        step(model)
        wait()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken[3:])


def measure(
    sizes: dict[str, Any],
    make_rows: Callable[[dict[str, Any]], Any],
    deadline: float,
) -> None:
    """Times every layer, eager and compiled.

    Args:
      sizes: shape, layers, batch, size and rounds of benchmarks/gpu.py.
      make_rows: takes the facts of the measurement and returns an object with
        `add(**row)`.
      deadline: as `time.time`; no further case starts after it.
    """
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    what = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    rows = make_rows(
        {
            "device": f"{device}: {what}",
            "torch": torch.__version__,
            "timm": timm.__version__,
            "sizes": sizes,
        }
    )
    for kind, make in KINDS.items():
        base: dict[str, float] = {}
        for name in NAMES:
            model, step = make(name, sizes, device)
            for mode in MODES:
                if time.time() > deadline:
                    print(f"no time left for {kind}, {name}", flush=True)
                    return
                run = torch.compile(model) if mode == "compiled" else model
                taken = milliseconds(step, run, device, sizes["rounds"])
                base.setdefault(mode, taken)
                rows.add(
                    kind=kind,
                    layer=name,
                    mode=mode,
                    ms=round(taken, 3),
                    ratio=round(taken / base[mode], 3),
                )
