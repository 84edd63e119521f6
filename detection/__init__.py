"""Detection and instance segmentation: Mask R-CNN with any catalog layer."""

from evonorm_tf import commands

commands.start(
    {
        "detection.check": "detection.data check",
        "detection.convert": "detection.data convert",
        "detection.count": "detection.model_cost",
        "detection.recheck": "detection.data check --records",
    }
)
