"""The proxy task: its arithmetic, and its calibration on known layers."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from evonorm_tf import graphs
from evonorm_tf.nets import resnet
from evonorm_tf.search import data, proxy, proxy_loop, stages, worker
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.anchors import ANCHORS, Network
from evonorm_tf.search.stages import Outcome, Task

# Fewer steps of ascent than the search takes: the bad ones need five.
SETTINGS = settings_lib.make(settings_lib.DEBUG, {"stability_steps": 5})
IMAGES = data.load(SETTINGS)
PROXY = proxy.Proxy(SETTINGS, IMAGES)
BAD = {
    "relu": "n13=max(zero,x)",
    "square": "n13=square(x)",
    "x_exp": "n12=exp(x); n13=mul(x,n12)",
}


def often(name):
    """The known layers: every time this one."""
    return [
        n if n == name else pytest.param(n, marks=pytest.mark.slow)
        for n in graphs.NAMED
        if n != "gn_silu"
    ]


@pytest.fixture(autouse=True)
def _one_block(monkeypatch):
    """The anchor "small", for what does not depend on the number of layers."""
    size = resnet.Size((1,), (8,), (2,), stem="cifar", stem_filters=8)
    monkeypatch.setitem(ANCHORS, "small", lambda width: size)


def objection(stage, result, settings=SETTINGS):
    outcome = Outcome(Task(0, stage, ""), result._asdict(), "", 0.0)
    return stages.objection(outcome, settings)


# -- calibration --------------------------------------------------------------


# One that has batch statistics, and one whose derivatives are quickly traced.
@pytest.mark.parametrize("name", often("evonorm_b0"))
def test_known_layers_pass_quality(name):
    row = graphs.row(graphs.NAMED[name], name)
    trained = PROXY.train(row, "resnet", 30)
    few = dataclasses.replace(SETTINGS, quality_steps=30)
    assert not objection("quality/resnet", trained, few)
    # Far above the threshold of 0.2: 1,052 digits and 30 steps do that.
    assert trained.accuracy > 0.8


@pytest.mark.parametrize("name", often("evonorm_s0"))
def test_known_layers_pass_stability(name):
    row = graphs.row(graphs.NAMED[name], name)
    found = PROXY.stability(row)
    assert not objection("stability", found)
    assert found.steps == 5


@pytest.mark.slow
@pytest.mark.parametrize("anchor", ["mobilenet", "efficientnet"])
def test_known_layers_pass_on_the_other_anchors(anchor):
    row = graphs.row(graphs.NAMED["evonorm_s0"], "evonorm_s0")
    assert PROXY.train(row, anchor, 100).accuracy > 0.8


@pytest.mark.parametrize(
    "name",
    # The others are faster still; a training with "x_exp" is tested below.
    [
        "relu",
        *(pytest.param(n, marks=pytest.mark.slow) for n in BAD if n != "relu"),
    ],
)
def test_layers_without_a_normalization_are_rejected(name):
    row = graphs.row(graphs.parse(BAD[name]))
    found = PROXY.stability(row)
    assert "gradient norm" in objection("stability", found)
    # "Most bad layers blow up in fewer than 5 steps" (arXiv:2004.02967);
    # relu takes the fifth.
    assert found.steps <= 5


def test_a_training_that_diverges_stops_there():
    row = graphs.row(graphs.parse(BAD["x_exp"]))
    found = PROXY.train(row, "resnet", 100)
    assert found.steps < 10
    assert found.accuracy == 0.0
    assert f"at step {found.steps}" in objection("quality/resnet", found)


def test_a_training_that_learns_nothing_is_given_up_early():
    # Sigmoid without normalisation stays at a guess; the digits' is ln 10.
    row = graphs.row(graphs.parse("n13=sigmoid(x)"))
    found = PROXY.train(row, "small", 100)
    assert found.steps == proxy_loop.EARLY[1]
    assert found.early > stages.GUESS
    assert "at step 40" in objection("quality/small", found)
    patient = settings_lib.make(settings_lib.DEBUG, {"early_exit": False})
    found = proxy.Proxy(patient, IMAGES).train(row, "small", 42)
    assert found.steps == 42


@pytest.mark.parametrize(
    ("stage", "steps"), [("quality/small", 40), ("fitness/small", 42)]
)
def test_the_judgement_of_a_search_without_rejection_ends_early(stage, steps):
    settings = settings_lib.make(
        settings_lib.DEBUG,
        {"rejection": False, "quality_steps": 42, "fitness_steps": 42},
    )
    task = stages.Task(-1, stage, "n13=sigmoid(x)")
    found = worker.run(task, proxy.Proxy(settings, IMAGES), settings)
    assert (found.error, found.result["steps"]) == ("", steps)


# -- arithmetic ---------------------------------------------------------------


@pytest.mark.parametrize("anchor", ANCHORS)
def test_anchors_have_their_sites_and_sizes(anchor):
    row = graphs.row(graphs.NAMED["evonorm_b0"])
    network = Network(anchor, row)
    weights, moving, decays = network.draw(0, (8, 8, 1))
    sites = {"resnet": 10, "mobilenet": 8, "efficientnet": 8}[anchor]
    kernels = [w for w, d in zip(weights, decays) if d]
    assert len(moving) == sites
    # The classifier's bias, and two in each squeeze-excitation.
    biases = 1 + 6 * (anchor == "efficientnet")
    assert len(weights) - len(kernels) == 3 * sites + biases
    logits, fresh = network(weights, moving, tf.ones([2, 8, 8, 1]), True)
    assert logits.shape == (2, 10)
    assert [f.shape for f in fresh] == [m.shape for m in moving]


def test_candidates_start_with_the_same_convolutions():
    starts = [
        Network("mobilenet", graphs.row(graphs.NAMED[n])).draw(3, (8, 8, 1))
        for n in ("bn_relu", "evonorm_s1")
    ]
    ours, theirs = (
        [w for w, decays in zip(start[0], start[2]) if decays]
        for start in starts
    )
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


def test_steps_are_kerass_nesterov_with_weight_decay():
    settings = settings_lib.make(settings_lib.DEBUG, {"decay": 0.01})
    row = graphs.row(graphs.NAMED["bn_relu"])
    network = Network("small", row)
    weights, moving, decays = network.draw(0, (8, 8, 1))
    batches = data.batches(settings, len(IMAGES.train), 3)
    rates = np.full(3, 0.1, np.float32)
    inputs = IMAGES.train, IMAGES.train_labels, batches, rates
    train = proxy_loop.Step(network, (weights, moving, decays), settings)
    step, _, _, got, _, got_moving = proxy._once(
        lambda *data: proxy_loop.loop(train, *data), *inputs
    )
    assert step == 3
    got = proxy_loop.Flat(weights).unpack(got)
    got_moving = proxy_loop.Flat(moving).unpack(got_moving)
    variables = [tf.Variable(w) for w in weights]
    optimizer = tf_keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    crossed = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rows in batches[:, :, 0].astype(int):
        images, labels = IMAGES.train[rows], IMAGES.train_labels[rows]
        with tf.GradientTape() as tape:
            logits, fresh = network(variables, moving, images, True)
            loss = crossed(labels, logits)
            for w, decays_ in zip(variables, decays):
                # Half the sum of squares, whose gradient is decay * w.
                loss += 0.01 * tf.nn.l2_loss(w) * float(decays_)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables))
        moving = [0.9 * m + 0.1 * f for m, f in zip(moving, fresh)]
    for a, b in zip([*got, *got_moving], [*variables, *moving]):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


# No statistics; two, of x and of a constant over space; groups; a layer that
# is constant over space and one that is over channels.
SHARED = {
    "tanh": "n13=tanh(x)",
    "batch": "n10=rms_bwh(x); n11=std_bwh(v1); n12=add(n10,n11); "
    "n13=div(x,n12)",
    "groups": "n12=std_whg(x); n13=div(x,n12)",
    "mean": "n13=mean_wh(x)",
    "grey": "n12=mean_whc(x); n13=sigmoid(n12)",
}


@pytest.mark.parametrize(
    ("name", "anchor"),
    [
        ("batch", "small"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [
                *((name, "resnet") for name in SHARED),
                *(("batch", "mobilenet"), ("groups", "efficientnet")),
            ]
        ),
    ],
)
def test_a_layer_that_sites_share_computes_the_same(name, anchor):
    row = graphs.row(graphs.parse(SHARED[name]))
    labels = IMAGES.train_labels[:4]

    def everything(network, weights, moving, images):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, fresh = network(weights, [], images, True)
            loss = proxy_loop.cross_entropy(logits, labels)
        grads = proxy_loop.gradient(tape, loss, weights)
        validated, _ = network(weights, moving, images, False)
        return [logits, validated, *fresh, *grads]

    found = []
    for shared in (False, True):
        network = Network(anchor, row, shared=shared)
        weights, moving, _ = network.draw(0, (8, 8, 1))
        run = functools.partial(everything, network)
        found.append(proxy._once(run, weights, moving, IMAGES.train[:4]))
    assert len(found[0]) == 2 + len(moving) + len(weights)
    # The same kernels on the same numbers, equal to the bit in a worker. Here
    # there may be more threads than one, whose sums may end in any order.
    for inline, called in zip(*found):
        np.testing.assert_allclose(inline, called, rtol=1e-5, atol=1e-6)


def test_a_further_seed_is_another_training():
    row = graphs.row(graphs.parse("n13=tanh(x)"))
    first = PROXY.train(row, "small", 2)
    other = dataclasses.replace(SETTINGS, seed=SETTINGS.seed + 1)
    assert stages.seed("confirm1/resnet", SETTINGS) == other.seed
    assert stages.seed("fitness/resnet", SETTINGS) == SETTINGS.seed
    again = PROXY.train(row, "small", 2, other.seed)
    wanted = proxy.Proxy(other, IMAGES).train(row, "small", 2)
    assert again.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert again.loss != pytest.approx(first.loss, rel=1e-2)


def test_long_trainings_compute_what_short_ones_do(monkeypatch):
    row = graphs.row(graphs.NAMED["bn_relu"])
    short = PROXY.train(row, "small", 12)
    monkeypatch.setattr(proxy, "SHORT", 0)  # The other form, for any length.
    long = PROXY.train(row, "small", 12)
    # Again but for the order of sums, which twelve steps do not amplify much.
    np.testing.assert_allclose(long, short, rtol=1e-3, atol=0.01)
    assert long.loss == pytest.approx(short.loss, rel=1e-3)
    assert short.steps == 12


def test_the_ascent_follows_the_norms_own_gradient():
    # Against a central difference in float64, along one direction.
    row = graphs.row(graphs.NAMED["evonorm_s0"])
    network = Network("small", row)
    weights, moving, _ = network.draw(0, (8, 8, 1))
    weights = [tf.constant(w, tf.float64) for w in weights]
    images = tf.constant(IMAGES.train[:6], tf.float64)

    def loss_of(weights):
        logits, _ = network(weights, moving, images, True)
        return proxy_loop.cross_entropy(logits, IMAGES.train_labels[:6])

    _, uphill = proxy.climb(loss_of, weights)
    rng = np.random.default_rng(1)
    along = [rng.standard_normal(w.shape) for w in weights]
    heights = []
    for step in (1e-5, -1e-5):
        moved = [w + step * d for w, d in zip(weights, along)]
        heights.append(np.log(proxy.climb(loss_of, moved)[0]))
    wanted = (heights[0] - heights[1]) / 2e-5
    got = sum(np.sum(u.numpy() * d) for u, d in zip(uphill, along))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_crops_are_parts_of_their_images():
    images = np.arange(2 * 6 * 6, dtype=np.float32).reshape(2, 6, 6, 1)
    corners = np.array([[0.0, 0.99], [0.5, 0.0]], np.float32)
    got = proxy_loop.crop(tf.constant(images), tf.constant(corners), 4).numpy()
    np.testing.assert_array_equal(got[0], images[0, 0:4, 2:6])
    np.testing.assert_array_equal(got[1], images[1, 1:5, 0:4])


def test_every_epoch_has_every_image_once():
    batches = data.batches(SETTINGS, 128, 4)
    rows = batches[:, :, 0].ravel()
    for epoch in np.split(rows, 2):
        assert sorted(epoch) == list(range(128))
    assert not np.array_equal(*np.split(rows, 2))


# -- images -------------------------------------------------------------------


def test_validation_is_apart_from_training_and_from_the_test_images():
    assert len(IMAGES.validation) == 300
    assert len(IMAGES.train) == 1052  # 1,797, less 445 of the test quarter
    rows = np.concatenate([IMAGES.train, IMAGES.validation])
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == len(rows)
    np.testing.assert_allclose(IMAGES.train.mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(IMAGES.train.std(), 1.0, atol=1e-5)


def test_data_that_is_not_there_says_how_to_make_it(tmp_path):
    folder = str(tmp_path)
    settings = settings_lib.make({"dataset": "cifar10", "data_dir": folder})
    with pytest.raises(ValueError, match=r"tfds build cifar10.*data_dir="):
        data.load(settings)
    few = settings_lib.make(settings_lib.DEBUG, {"validation": 1300})
    with pytest.raises(ValueError, match="`batch` and"):
        data.load(few)


def test_a_crop_is_no_larger_than_the_images():
    for changes, sides in (({}, "8x8"), ({"image_size": 4}, "4x4")):
        size = int(sides[0])
        fits = settings_lib.make(settings_lib.DEBUG, changes, {"crop": size})
        assert data.load(fits).train.shape[1] == size
        large = dataclasses.replace(fits, crop=size + 1)
        with pytest.raises(ValueError, match=f"{sides}.*crop={size + 1}"):
            data.load(large)


def test_images_are_averaged_by_blocks():
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    got = data._averaged(image, 2)[0, :, :, 0]
    np.testing.assert_array_equal(got, [[2.5, 4.5], [10.5, 12.5]])
    with pytest.raises(ValueError, match="image_size=3"):
        data._averaged(image, 3)


@pytest.mark.slow
def test_cifar10_is_read_as_tfds_lays_it_out(data_dir):
    settings = settings_lib.make(
        {"data_dir": str(data_dir / "tfds"), "examples": 500}
    )
    images = data.load(settings)
    assert images.train.shape == (500, 16, 16, 3)
    assert images.validation.shape == (1000, 16, 16, 3)
    assert set(images.validation_labels) == set(range(10))
