"""Training batches: what is in them, and that a step decides it."""

import os

import numpy as np
import pytest
import tensorflow as tf
from official.vision.data import tf_example_builder
from official.vision.tasks import maskrcnn
from PIL import Image

from detection import datasets, parser, steps
from tests.detection import small
from tests.training.images import pictures


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A task whose four scenes are augmented."""
    task = small.prepared(tmp_path_factory.mktemp("run"))
    augmented = task.task_config.train_data.parser
    augmented.aug_rand_hflip = True
    augmented.aug_scale_min, augmented.aug_scale_max = 0.5, 2.0
    return task


def _batches(task, start, count, **changes):
    model = task.task_config.model
    data = task.task_config.train_data.replace(**changes)
    stream = datasets.training(model, data, seed=3, start_step=start)
    return list(stream.take(count).as_numpy_iterator())


def _assert_equal(one, other):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow  # tests/training/images/test_batches.py has it for all heads.
def test_batch_k_does_not_depend_on_where_the_run_started(prepared):
    # Two batches of two an epoch of four scenes.
    whole = _batches(prepared, 0, 5)
    tf.random.set_seed(11)  # Of no consequence.
    _assert_equal(whole[3:], _batches(prepared, 3, 2))
    # Each epoch in an order, and with an augmentation, of its own.
    assert not np.array_equal(whole[0][0], whole[2][0])
    assert not np.array_equal(
        whole[0][1]["rpn_score_targets"]["2"],
        whole[2][1]["rpn_score_targets"]["2"],
    )


@pytest.fixture(scope="module")
def plain(prepared):
    """Two epochs without augmentation, and with masks that are all 0."""
    data = prepared.task_config.train_data
    parser = data.parser.replace(
        aug_rand_hflip=False, aug_scale_min=1.0, aug_scale_max=1.0
    )
    decoder = data.decoder.replace()
    decoder.simple_decoder.mask_binarize_threshold = 2.0
    return _batches(prepared, 0, 4, parser=parser, decoder=decoder)


def test_the_decoders_setting_reaches_training(plain):
    # Decoded masks are 0 or 1, and what pads them is -1.
    for _, labels in plain:
        assert set(np.unique(labels["gt_masks"])) == {-1, 0}


@pytest.mark.slow
def test_the_cost_of_cutting_masks_is_known(prepared):
    """Else TensorFlow warns, at each start, of CropAndResize."""
    graph = steps.parse_function(prepared.task_config).graph
    graphs = [graph, *(f.graph for f in _functions(graph))]
    boxes = [
        op.inputs[1].shape[0]
        for one in graphs
        for op in one.get_operations()
        if op.type == "CropAndResize"
    ]
    assert boxes == [1]


def _functions(graph):
    """What a graph's loops and conditions call, graphs of Python's making."""
    found = []
    for op in graph.get_operations():
        for name in ("body", "then_branch", "else_branch"):
            if name in op.node_def.attr:
                called = op.get_attr(name).name
                found.append(graph._get_function(called))
    return [function for function in found if function.graph is not None]


def test_an_epoch_has_every_example_once(plain):
    images = [image.tobytes() for batch in plain for image in batch[0]]
    assert len(set(images[:4])) == len(set(images[4:])) == 4
    assert set(images[:4]) == set(images[4:]) and images[:4] != images[4:]


@pytest.mark.slow  # The evaluation's, below, share decoding and parser.
def test_without_augmentation_examples_are_the_model_gardens(prepared):
    data = prepared.task_config.train_data
    plain = data.parser.replace(
        aug_rand_hflip=False, aug_scale_min=1.0, aug_scale_max=1.0
    )
    (ours,) = _batches(prepared, 0, 1, parser=plain, global_batch_size=4)
    data = data.replace(parser=plain, global_batch_size=4)
    # Their reader; the task's own reads as above.
    stream = maskrcnn.MaskRCNNTask.build_inputs(prepared, data)
    theirs = {}
    # They repeat before they shuffle, so a batch may have one twice.
    for images, labels in stream.take(12).as_numpy_iterator():
        for i, image in enumerate(images):
            one = tf.nest.map_structure(lambda v, i=i: v[i], labels)
            theirs[image.tobytes()] = one
    assert len(theirs) == 4
    for i, image in enumerate(ours[0]):
        one = tf.nest.map_structure(lambda v, i=i: v[i], ours[1])
        other = theirs[image.tobytes()]
        # Which anchors train is drawn; what they are to find is not.
        scores = one.pop("rpn_score_targets"), other.pop("rpn_score_targets")
        _assert_equal(one, other)
        for level in scores[0]:
            assert scores[0][level].shape == scores[1][level].shape


def _moved(flip=False, low=1.0, high=1.0, seed=0):
    """A bright rectangle with its mask after the parser: image, labels."""
    image = np.full([40, 60, 3], 20, np.uint8)
    image[10:30, 6:24] = 235
    made = parser.Parser(
        **{"output_size": [64, 64], "min_level": 2, "max_level": 4},
        **{"num_scales": 1, "aspect_ratios": [1.0], "anchor_size": 8.0},
        **{"aug_rand_hflip": flip, "aug_rand_vflip": flip},
        **{"aug_scale_min": low, "aug_scale_max": high},
        **{"include_mask": True, "mask_crop_size": 28},
        **{"max_num_instances": 3, "outer_boxes_scale": 1.0},
        dtype="float32",
    )
    mask = np.zeros([1, 40, 60], np.float32)
    mask[0, 10:30, 6:15] = 1  # The left half of the rectangle.
    parsed = made.parse_fn(True)(
        {
            "image": tf.constant(image),
            "groundtruth_boxes": tf.constant([[0.25, 0.1, 0.75, 0.4]]),
            "groundtruth_classes": tf.constant([5], tf.int64),
            "groundtruth_is_crowd": tf.constant([False]),
            "groundtruth_instance_masks": tf.constant(mask),
            "seed": tf.constant([0, seed], tf.int64),
        }
    )
    return parsed[0].numpy(), {k: v for k, v in parsed[1].items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": True},
        {"flip": True, "low": 0.4},
        pytest.param({"low": 0.4, "high": 2.5}, marks=pytest.mark.slow),
    ],
)
def test_boxes_and_masks_move_with_the_pixels(settings):
    boxes, halves = [], set()
    for seed in range(8):
        image, labels = _moved(seed=seed, **settings)
        box = labels["gt_boxes"][0].numpy()
        if min(box[2:] - box[:2]) < 4:
            continue  # Cropped away, or to a sliver that is blurred.
        bright = image[..., 0] > 0.5  # Normalized; the ground is below 0.
        rows, columns = np.nonzero(bright)
        seen = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        # Resized edges are blurred over as many pixels as the scale, 2.7 at
        # most here.
        np.testing.assert_allclose(box, seen, atol=2.7)
        boxes.append(tuple(box.round()))
        mask = labels["gt_masks"][0].numpy()
        left, right = mask[:, :13].mean(), mask[:, 15:].mean()
        if settings == {"flip": True}:
            # The half that was left is right where the image was mirrored.
            mirrored = box[1] > 20
            assert (right > 0.9) == mirrored and (left > 0.9) != mirrored
            halves.add(mirrored)
    assert len(set(boxes)) > 1 and len(boxes) > 4
    if settings == {"flip": True}:
        assert halves == {True, False}


def test_another_number_of_examples_is_an_error(prepared):
    with pytest.raises(ValueError, match=r"contain 4 images.*num_examples=5"):
        _batches(prepared, 0, 4, num_examples=5)


def test_no_example_at_all_is_an_error(prepared, tmp_path):
    path = os.path.join(tmp_path, "none.tfrecord")
    tf.io.TFRecordWriter(path).close()
    with pytest.raises(ValueError, match="no example"):
        _batches(prepared, 0, 1, num_examples=-1, input_path=path)


def test_a_file_that_several_patterns_match_is_read_once(prepared, tmp_path):
    path = prepared.task_config.train_data.input_path
    link = tmp_path / "linked.tfrecord"
    link.symlink_to(path)
    folder = os.path.dirname(path)
    for given in (
        [path, path],
        f"{path},{folder}/tr*.tfrecord",
        [path, f"{folder}/../{os.path.basename(folder)}/train.tfrecord"],
        [path, str(link)],
    ):
        assert datasets.find(given) == [path]


@pytest.mark.slow
def test_the_order_of_the_files_does_not_matter(prepared):
    train = prepared.task_config.train_data.input_path
    both = [train, prepared.task_config.validation_data.input_path]
    one, other = (
        _batches(prepared, 0, 2, num_examples=9, input_path=files)
        for files in (both, both[::-1])
    )
    _assert_equal(one, other)


@pytest.fixture(scope="module")
def evaluation(prepared):
    """Every image of the evaluation in one batch."""
    data = prepared.task_config.validation_data.replace(global_batch_size=5)
    stream = datasets.evaluation(prepared.task_config.model, data)
    (batch,) = stream.as_numpy_iterator()
    return batch


def _evaluated(task, replicas=1, pipelines=1, **changes):
    """(ids, images) of each pipeline's batches."""
    data = task.task_config.validation_data.replace(**changes)
    found = []
    for pipeline in range(pipelines):
        context = tf.distribute.InputContext(pipelines, pipeline, replicas)
        stream = datasets.evaluation(task.task_config.model, data, context)
        found.append(
            [
                (labels["groundtruths"]["source_id"].tolist(), images)
                for images, labels in stream.as_numpy_iterator()
            ]
        )
    return found


@pytest.mark.parametrize(
    ("batch", "replicas", "pipelines", "expected"),
    [
        (4, 2, 2, [[[1, 2], [3, 4]], [[5, -1], [-1, -1]]]),
        *(
            pytest.param(*numbers, marks=pytest.mark.slow)
            for numbers in (
                (5, 1, 1, [[[1, 2, 3, 4, 5]]]),
                (2, 1, 1, [[[1, 2], [3, 4], [5, -1]]]),
                (4, 2, 1, [[[1, 2], [3, 4], [5, -1], [-1, -1]]]),
                (6, 3, 3, [[[1, 2]], [[3, 4]], [[5, -1]]]),
            )
        ),
    ],
)
def test_an_evaluation_has_every_image_once_in_whole_batches(
    prepared, batch, replicas, pipelines, expected
):
    found = _evaluated(prepared, replicas, pipelines, global_batch_size=batch)
    assert [[ids for ids, _ in part] for part in found] == expected
    # What fills is an image, not zeros that no model expects.
    for part in found:
        assert all(np.ptp(images) > 1 for _, images in part)


def test_evaluation_examples_are_the_model_gardens(prepared, evaluation):
    data = prepared.task_config.validation_data
    bare = prepared.task_config.replace()
    bare.model.include_mask = False
    stream = maskrcnn.MaskRCNNTask(bare).build_inputs(
        data.replace(global_batch_size=5)
    )
    (theirs,) = stream.as_numpy_iterator()
    _assert_equal(evaluation, theirs)
    ids = evaluation[1]["groundtruths"]["source_id"].tolist()
    assert ids == [1, 2, 3, 4, 5]


def _record(path, content, label=1, size=(40, 50)):
    builder = tf_example_builder.TfExampleBuilder()
    builder.add_encoded_image_feature(content, "JPEG", *size, 3, b"7")
    builder.add_boxes_feature([0.1], [0.5], [0.2], [0.6], [label])
    builder.add_ints_feature("image/object/is_crowd", [0])
    mask = np.ones((1, *size), np.uint8)
    builder.add_instance_mask_matrices_feature(mask)
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(builder.example.SerializeToString())


@pytest.mark.parametrize(
    "trains", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_a_broken_image_and_a_class_id_name_their_record(
    prepared, tmp_path, trains
):
    path = str(tmp_path / "x.tfrecord")
    image = pictures.encoded(pictures.COLOUR.resize((50, 40)), "JPEG")
    deep = pictures.encoded(Image.fromarray(pictures.DEEP), "PNG")

    _record(path, image)
    changes = {"input_path": path, "num_examples": -1}
    model = prepared.task_config.model
    if trains:
        data = prepared.task_config.train_data.replace(**changes)
        stream = datasets.training(model, data, seed=3)
    else:
        data = prepared.task_config.validation_data.replace(**changes)
        stream = datasets.evaluation(model, data)

    # Which TensorFlow would rewrite for each of these.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    stream = stream.with_options(options)

    def message(content, label=1):
        """Of the same stream, whose file is replaced."""
        _record(path, content, label)
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            next(iter(stream))
        return error.value.message

    cut = message(image[: len(image) * 2 // 3])
    assert f"record 0 of {path} (image id 7) cannot be read" in cut
    assert "cut off" in cut
    assert "16 bits per channel" in message(deep)
    outside = message(image, 11)
    assert "A class id is outside 1 to 10" in outside
    assert f"record 0 of {path}. Received:" in outside
