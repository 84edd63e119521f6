"""Detection and instance segmentation: Mask R-CNN with any catalog layer."""
