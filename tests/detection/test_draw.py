"""Pictures show what there is, where it is."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from detection import draw, ground_truth, masks, scenes

_ORANGE = np.array([0xE6, 0x9F, 0x00])


def _drawn(tmp_path, entry, shape=(40, 60, 3)):
    """A picture of a black image, in pixels of that image."""
    path = str(tmp_path / "new" / "p.png")
    draw.picture(np.zeros(shape, np.uint8), [entry], {3: "cat"}, path)
    pixels = cv2.imread(path)[..., ::-1].astype(int)
    assert pixels.shape[0] / pixels.shape[1] == pytest.approx(
        shape[0] / shape[1], abs=0.01
    )
    scale = pixels.shape[0] / shape[0]

    def at(x, y):
        """The middle of a pixel of the image."""
        return pixels[int((y + 0.5) * scale), int((x + 0.5) * scale)]

    return at


@pytest.mark.parametrize("form", ["polygon", "rle"])
def test_boxes_and_masks_are_where_they_should_be(form, tmp_path):
    entry = {"bbox": [10, 15, 20, 10], "category_id": 3}
    mask = np.zeros([40, 60], np.uint8)
    mask[15:25, 10:20] = 1
    entry["segmentation"] = masks.encode(mask)
    if form == "polygon":
        entry["segmentation"] = [[10, 15, 20, 15, 20, 25, 10, 25]]
    at = _drawn(tmp_path, entry)
    # The mask is the left half of the box, more colour than image.
    np.testing.assert_allclose(at(15, 20), 0.55 * _ORANGE, atol=3)
    np.testing.assert_array_equal(at(25, 20), 0)
    # Outside, and not where the name is.
    np.testing.assert_array_equal(at(35, 20), 0)
    np.testing.assert_array_equal(at(15, 30), 0)


def test_edges_of_boxes_are_drawn_where_pixels_end(tmp_path):
    at = _drawn(tmp_path, {"bbox": [10, 20, 20, 10], "category_id": 3})
    # Between pixels 29 and 30 is the right edge.
    assert at(29.5, 25)[0] > 150
    assert at(9.5, 25)[0] > 150
    assert at(20, 29.5)[0] > 150
    for x, y in ((20, 25), (28, 25), (31, 25), (20, 31)):
        np.testing.assert_array_equal(at(x, y), 0)


def test_a_name_at_the_upper_edge_stays_inside(tmp_path):
    at = _drawn(tmp_path, {"bbox": [10, 0, 20, 30], "category_id": 3})
    # Letters on a coloured ground, well inside of the box's own line.
    assert max(at(x / 4, 2.5)[0] for x in range(42, 60)) > 100


def test_summaries_are_one_picture_an_image(tmp_path):
    made = scenes.ensure(scenes.Scenes(train=1, validation=3), str(tmp_path))
    truth = ground_truth.load(f"{made}/validation.json")
    images = draw.read_images(f"{made}/validation.tfrecord", 2)
    assert [image.shape for image in images.values()] == [(128, 128, 3)] * 2
    results = [
        {"image_id": 1, "category_id": 4, "bbox": [9, 9, 50, 60], "score": s}
        for s in (0.2, 0.9)
    ]
    folder = str(tmp_path / "pictures")
    draw.summaries(folder, 30, images, results, truth)
    (events,) = tf.io.gfile.glob(f"{folder}/*")
    drawn = {}
    for event in tf.compat.v1.train.summary_iterator(events):
        for value in event.summary.value:
            png = tf.make_ndarray(value.tensor)[2]
            drawn[value.tag] = tf.io.decode_png(png).numpy()
            assert event.step == 30
    assert sorted(drawn) == ["detections/1", "detections/2"]
    for picture in drawn.values():
        assert picture.shape == (640, 1280, 3)
        assert picture.std() > 10
    # Annotated left, found right: nothing was found in the second.
    edge = np.array([0xE6, 0x9F, 0x00])
    orange = {
        tag: np.all(np.abs(picture.astype(int) - edge) < 40, -1)
        for tag, picture in drawn.items()
    }
    assert orange["detections/1"][:, 640:].sum() > 100
    assert orange["detections/2"][:, 640:].sum() == 0
    assert orange["detections/2"][:, :640].sum() > 100
