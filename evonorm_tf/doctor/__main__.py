"""Prints versions, devices and conflicts; see the package."""

import sys

from evonorm_tf.doctor.checks import Finding, examine
from evonorm_tf.doctor.machine import PACKAGES, Machine, look

_VARIABLES = (
    "TF_USE_LEGACY_KERAS",
    "KERAS_BACKEND",
    "TPU_NAME",
    "TF_CONFIG",
    "CUDA_VISIBLE_DEVICES",
)


def report(machine: Machine, findings: list[Finding]) -> str:
    """Versions, devices and conflicts as text."""
    lines = [f"{'python':22s}{'.'.join(map(str, machine.python))}"]
    lines += [
        f"{name:22s}{machine.versions.get(name, '-')}" for name in PACKAGES
    ]
    lines += [
        f"{name:22s}{machine.environment[name]}"
        for name in _VARIABLES
        if name in machine.environment
    ]
    seen = [
        f"{count} {kind}" for kind, count in sorted(machine.devices.items())
    ]
    lines += ["", f"TensorFlow sees: {', '.join(seen) or 'nothing'}"]
    for one in findings:
        lines += ["", f"CONFLICT: {one.what}", f"  {one.why}"]
        lines += [f"  Way out: {one.way_out}"]
    if not findings:
        lines += ["", "No known conflict."]
    return "\n".join(lines)


def main() -> int:
    """Prints the report; 1 where there is a conflict, else 0."""
    machine = look()
    findings = examine(machine)
    print(report(machine, findings))
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
