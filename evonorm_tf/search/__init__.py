"""Evolution of normalization-activation layers.

    python -m evonorm_tf.search --space=b --output=runs/search --debug

`space` draws and mutates graphs, `filters` rejects them before any training,
`proxy` trains the others, `evolution` proposes trials, `journal` stores all
results, and `driver` combines these.
"""
