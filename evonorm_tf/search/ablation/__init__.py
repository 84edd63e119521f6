"""The paper's ablation of the search, and a table for replaying searches.

    python -m evonorm_tf.search.ablation arms --config=small --output=DIR

`arms` defines random search and evolution with and without rejection, and
`replay` runs them in milliseconds on an exhaustive table of a small space. The
search does not import this package.
"""
