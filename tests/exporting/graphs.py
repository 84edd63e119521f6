"""What is in an exported graph."""

import re

from tensorflow.python.framework import convert_to_constants

from evonorm_tf.layer import NormActMixin


def operations(function):
    """The operations of NormAct layers, calls within calls inlined.

    Args:
      function: a concrete function, of a loaded SavedModel for one.

    Returns:
      {scope: operations without constants}, of layers that have the name that
      they get if they are given none, or those of a detector's pyramid.
    """
    inlined = convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False
    )
    found = {}
    for op in inlined.graph.get_operations():
        # With what stands before it: two parts of a model may have one name.
        scope = re.match(r"(.*/)?norm(_act)?(_\d+)?(?=/)", op.name)
        if scope and op.type != "Const":
            found.setdefault(scope[0], []).append(op)
    return found


def assert_folded(function, model):
    """Ranks up to 4, and nothing of a moving statistic left to compute."""
    found = operations(function)
    layers = [x for x in model._flatten_layers() if isinstance(x, NormActMixin)]
    # All were found: else nothing is shown of those that were not.
    assert len(found) == len({id(x) for x in layers}) > 0
    for name, ops in found.items():
        assert max(t.shape.rank for op in ops for t in op.outputs) <= 4, name
        # A root of the instance's statistic alone, none of a moving one.
        roots = [op for op in ops if op.type in ("Sqrt", "Rsqrt")]
        assert len(roots) <= 1, name
        assert all(op.inputs[0].shape.rank == 4 for op in roots), name
    read = {v.name.split("/")[-1].split(":")[0] for v in function.variables}
    assert not read & {"gamma", "beta", "v", "moving_variance", "moving_mean"}
