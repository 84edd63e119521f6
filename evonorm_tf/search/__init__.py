"""The search: evolving normalization-activation layers.

    python -m evonorm_tf.search --space=b --output=runs/search --debug

`space` draws and mutates graphs, `filters` rejects them before any training,
`proxy` trains the others, `evolution` decides what to try next, `journal`
keeps what is known and `driver` brings these together.
"""
