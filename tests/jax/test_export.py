"""A model on JAX is exported as its own file, and others say what to do."""

import keras
import numpy as np
import pytest

from evonorm_tf import export, layers
from evonorm_tf.exporting import inference_form


def test_the_keras_format_and_the_error_of_others(tmp_path):
    image = keras.Input((6, 6, 4), name="image")
    gate = keras.Input((4,), name="gate")
    x = layers.NormAct("evonorm_b0")(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = {"gated": keras.layers.Multiply()([x, gate]), "all": [x]}
    model = keras.Model({"z": image, "b": gate}, outputs)
    done = export(model, tmp_path / "model.keras")
    assert done.difference <= done.tolerance == 1e-5
    assert done.left == () and done.model_milliseconds > 0
    rng = np.random.default_rng(0)
    given = {"z": rng.normal(size=(2, 6, 6, 4)), "b": np.ones((2, 4))}
    export(model, tmp_path / "model.keras", images=given)
    for name in ("model", "model.tflite"):
        with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
            export(model, tmp_path / name)
    with pytest.raises(ValueError, match="on jax"), inference_form(model):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]
