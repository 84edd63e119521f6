"""Graphs as layers: equal to the hand-written ones, stored and loaded."""

import json

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from evonorm_tf import catalog, graphs, legacy
from evonorm_tf.graphs import evaluate
from tests import cases
from tests.graphs.test_graph import inputs, some_graphs

NAMES = tuple(graphs.NAMED)
GROUPS = 4
# Where a baseline has its gamma and beta, the graph has v and v0.
INSIDE = {"v": "gamma", "v0": "beta"}


def pair(name, **keywords):
    """The catalog's layer and the graph's, with equal random weights."""
    keywords = {"groups": GROUPS, **keywords}
    rng = np.random.default_rng(5)
    row = graphs.row(graphs.NAMED[name], name)
    made, found = (legacy.NormAct(r, **keywords) for r in (name, row))
    for layer in (made, found):
        layer.build((None, *cases.SHAPE[1:]))
    for kind in ("gamma", "beta", "v"):
        if hasattr(made, kind):
            value = 1.0 + 0.3 * rng.standard_normal(cases.SHAPE[-1])
            getattr(made, kind).assign(value)
            names = matching(found, name)
            getattr(found, names[kind]).assign(value)
    return made, found


def matching(found, name):
    """Name of the graph's weight for each of the catalog layer's."""
    if name.startswith("evonorm_"):
        return {"gamma": "gamma", "beta": "beta", "v": "v"}
    return {outer: inner for inner, outer in INSIDE.items()}


def results(layer, names):
    x = tf.constant(cases.draw(), tf.as_dtype(layer.dtype))
    cotangent = cases.draw(seed=2)
    sources = {k: getattr(layer, name) for k, name in names.items()}
    sources = {k: v for k, v in sources.items() if v is not None} | {"x": x}
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * tf.cast(cotangent, y.dtype))
    found = tape.gradient(loss, sources)
    found |= {"y": y, "inference": layer(x, training=False)}
    return {k: v.numpy() for k, v in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_catalog_row_in_value_and_gradient(name):
    made, found = pair(name, dtype="float64", xla=False)
    names = matching(found, name)
    names = {k: v for k, v in names.items() if hasattr(made, k)}
    wanted = results(made, {k: k for k in names})
    got = results(found, names)
    assert set(got) == set(wanted) >= {"x", "y", "gamma", "beta", "inference"}
    for key, value in wanted.items():
        # float64 and another order of sums: some 1e-15 of the largest term,
        # over moments of up to a thousand terms.
        cases.assert_close(got[key], value, 1e-10, f"{name} {key}")


@pytest.mark.parametrize("name", ["evonorm_b0", "gn_silu"])
def test_compiled_float32_equals_the_catalog_row(name):
    made, found = pair(name)
    names = matching(found, name)
    names = {k: v for k, v in names.items() if hasattr(made, k)}
    wanted = results(made, {k: k for k in names})
    for key, value in results(found, names).items():
        # float32: 6e-8 a term, summed over 120 pixels.
        cases.assert_close(value, wanted[key], 2e-5, f"{name} {key}")


def test_random_graphs_agree_with_numpy():
    x, zero, v0, v1 = inputs(4, (4, 30, 8))
    checked = 0
    for graph in some_graphs(40, seed=2):
        with np.errstate(all="ignore"):
            wanted = evaluate.evaluate_numpy(graph, [x, zero, v0, v1], GROUPS)
        if not np.abs(wanted).max() < 1e6:
            continue
        row = graphs.row(graph)
        layer = legacy.NormAct(row, GROUPS, dtype="float64", xla=False)
        layer.build((None, 6, 5, 8))
        for name, value in (("v0", v0), ("v", v1)):
            if hasattr(layer, name):
                getattr(layer, name).assign(value[0, 0])
        y = layer(x.reshape(4, 6, 5, 8), training=True).numpy()
        wanted = np.broadcast_to(wanted, x.shape).reshape(y.shape)
        cases.assert_close(y, wanted, 1e-9, graph.text())
        checked += 1
    assert checked > 30


def test_every_batch_aggregation_moves_a_statistic_of_its_own():
    graph = graphs.parse(
        "n10=std_bwh(x); n11=mean_bwh(v0); n12=rms_bwh(n10); n13=add(n11,n12)"
    )
    layer = legacy.NormAct(graphs.row(graph), momentum=0.9, xla=False)
    x = cases.draw().astype(np.float32)
    layer(x, training=True)
    moved = {w.name.split(":")[0]: w.numpy() for w in layer.weights}
    variance = x.var((0, 1, 2))
    wanted = {
        "moving_variance_10": 0.9 + 0.1 * variance,
        "moving_mean_11": np.zeros(8),
        "moving_mean_square_12": 0.9 + 0.1 * (variance + 1e-5),
    }
    got = {k.split("/")[-1]: v for k, v in moved.items() if "moving" in k}
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5)


def test_synchronised_halves_equal_the_whole(mirrored):
    row = graphs.row(graphs.NAMED["evonorm_b0"])
    x = cases.draw().astype(np.float32)
    whole = legacy.NormAct(row, xla=False)
    wanted = whole(x, training=True).numpy()
    with mirrored.scope():
        layer = legacy.NormAct(row, synchronized=True)
        layer.build((None, *x.shape[1:]))
    halves = mirrored.experimental_distribute_values_from_function(
        lambda c: x[c.replica_id_in_sync_group * 2 :][:2]
    )
    run = tf.function(lambda t: mirrored.run(layer, (t,), {"training": True}))
    parts = mirrored.experimental_local_results(run(halves))
    cases.assert_close(np.concatenate(parts), wanted, 1e-5)
    moving = layer.moving_variance_8.numpy()
    cases.assert_close(moving, whole.moving_variance_8.numpy(), 1e-5)


# -- stored, loaded, named ----------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "found.json"
    graph = graphs.NAMED["evonorm_b0"]
    path.write_text(json.dumps({**graph.to_json(), "name": "mine"}))
    return path


@cases.both_kerases
def test_a_file_is_a_layer_and_models_keep_it(kit_name, stored, tmp_path):
    kit = cases.kit(kit_name)
    inputs_ = kit.keras.Input((6, 5, 8))
    layer = kit.layers.norm_act(str(stored), xla=False)
    model = kit.keras.Model(inputs_, layer(inputs_))
    x = cases.draw().astype(np.float32)
    model(x, training=True)
    stored.unlink()  # The model holds the graph, not the path.
    saved = tmp_path / "model.keras"
    model.save(saved)
    loaded = kit.keras.models.load_model(saved)
    np.testing.assert_array_equal(loaded(x), model(x))
    copy = type(layer).from_config(layer.get_config())
    assert copy.row is layer.row  # One graph, one row.
    assert copy.row.name == "mine"
    assert json.loads(json.dumps(layer.get_config()["name_or_row"]))


def test_bad_files_and_mappings_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read.*nowhere\.json"):
        catalog.get(str(tmp_path / "nowhere.json"))
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"not JSON.*bad\.json"):
        catalog.get(path)
    data = graphs.NAMED["evonorm_b0"].to_json()
    data["nodes"][9] = {"op": "div", "in": [0, 13]}
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"bad\.json.*n13.*earlier"):
        catalog.get(str(path))
    with pytest.raises(ValueError, match="Not a graph"):
        catalog.get({"nodes": []})
    with pytest.raises(ValueError, match="name=3"):
        catalog.get({**graphs.NAMED["evonorm_b0"].to_json(), "name": 3})


def test_functions_of_graphs_refuse_their_other_forms():
    graph = graphs.NAMED["evonorm_s0"]
    calls = (
        *(graphs.row, graphs.key, graphs.canonical, graphs.formula),
        *(graphs.latex, graphs.dot, lambda wrong: graphs.png(wrong, "a.png")),
    )
    for call in calls:
        for wrong in (graph.text(), graph.to_json()):
            with pytest.raises(TypeError, match=r"parse.*Received: graph="):
                call(wrong)
    with pytest.raises(ValueError, match="Received: name=3"):
        graphs.row(graph, 3)


def test_a_config_can_be_changed_without_the_layer():
    row = graphs.row(graphs.NAMED["evonorm_s0"])
    config = evonorm_tf.NormAct(row).get_config()
    config["name_or_row"]["nodes"][9]["op"] = "mul"
    config["name_or_row"]["name"] = "changed"
    assert row.spec == graphs.NAMED["evonorm_s0"].to_json()


def test_without_activation_it_is_the_plain_affine():
    row = graphs.row(graphs.NAMED["evonorm_b0"])
    layer = legacy.NormAct(row, activation=False)
    x = cases.draw().astype(np.float32)
    np.testing.assert_array_equal(layer(x, training=True), x)
    assert len(layer.weights) == 2
