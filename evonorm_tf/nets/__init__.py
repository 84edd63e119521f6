"""Backbones as functions: `f(inputs, layers, norm_act, size)`.

`layers` is a Keras layers module (`keras.layers` or `tf_keras.layers`) and
`norm_act` makes one normalization-activation layer a call. This package
imports neither Keras nor the rest of `evonorm_tf`, so that one source serves
both Kerases and any normalization.
"""
