"""Images from files to batches, for all heads."""
