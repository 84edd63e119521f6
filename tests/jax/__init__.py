"""The layers on JAX: `KERAS_BACKEND=jax pytest tests/jax`.

A process has one backend, so these tests are collected only there. `make
test` runs them in a process of their own.
"""
