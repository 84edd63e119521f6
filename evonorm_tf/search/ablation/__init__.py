"""Does the search work? The paper's ablation, and a table to replay it on.

    python -m evonorm_tf.search.ablation arms --config=small \\
        --output=runs/arms --set=cpu=600

`arms` defines random search and evolution with and without rejection, and
`replay` runs them in milliseconds on an exhaustive table of a small space.
Nothing of the search imports this package.
"""
