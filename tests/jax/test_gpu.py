"""The benchmark for GPUs, at a size for a CPU."""

import argparse
import json

from benchmarks import gpu, jax_steps


def test_single_layers_are_measured_and_tabled(tmp_path, monkeypatch):
    monkeypatch.setattr(jax_steps, "NAMES", ("evonorm_b0", "evonorm_s0"))
    given = argparse.Namespace(
        part="layers", small=True, output=tmp_path, seconds=1e9, cifar=None
    )
    gpu.part(given)
    document = json.loads((tmp_path / "layers.json").read_text())
    assert document["facts"]["device"] == "cpu: cpu"
    *rows, copy = document["rows"]
    names = [row["layer"] for row in rows]
    assert names == [jax_steps.BASELINE, "evonorm_b0", "evonorm_s0"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["ms_per_layer"] > 0 for row in rows)
    assert copy["layer"] == "copy" and copy["terabytes_per_second"] > 0
    lines = gpu.table(tmp_path).splitlines()
    assert lines[0] == "layers: cpu: cpu"
    assert "layer=evonorm_s0" in lines[3]
    assert lines[-3:] == [
        f"{n}: not run" for n in ("networks", "torch", "cifar")
    ]
