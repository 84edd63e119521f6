"""The 2015 Inception network of FID and IS, from a local file.

Two formats are read. The frozen graph takes pixels of any size and resizes them
itself. The TF-Hub module takes 299 pixels; the resize is TensorFlow 1's, which
is shifted by half a pixel compared with today's, and another resize would be
another metric.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from evonorm_tf import files
from gan.metrics import extractor

Array = np.ndarray
Run = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
FEATURES, CLASSES = 2048, 1008
SIDE = 299  # pixels
_WHERE = (
    "The frozen graph is classify_image_graph_def.pb inside "
    "http://download.tensorflow.org/models/image/imagenet/"
    "inception-2015-12-05.tgz, the SavedModel is "
    "https://tfhub.dev/tensorflow/tfgan/eval/inception/1, unpacked. Download "
    "one, note its sha256, and give its path as task.evaluation.path "
    "(--path)."
)
_PRODUCT = "softmax/logits/MatMul"
_RESIZE = f"TensorFlow 1's bilinear to {SIDE} px"


class Inception:
    """Features (pool_3) and logits of the 2015 Inception network.

    Attributes: as `extractor.Extractor`.
    """

    names = extractor.Names("fid", "inception_score", "kid")
    size, classes = FEATURES, CLASSES

    def __init__(self, path: str, sha256: str = ""):
        """Loads the network.

        Args:
          path: the frozen graph (.pb), or the SavedModel's folder.
          sha256: what its hash must be, or begin with.

        Raises:
          ValueError: if nothing is there, the hash is different, or it is
            another network.
        """
        frozen = files.is_file(path)
        if not frozen and not files.is_file(files.join(path, "saved_model.pb")):
            raise ValueError(
                f"There is no Inception network. {_WHERE} "
                f"Received: path={path!r}"
            )
        digest = _digest(path)
        extractor.check_digest(digest, sha256, path)
        load, kind = (_frozen, "frozen graph") if frozen else (_hub, "module")
        # The module determines whether there is a bias; that of the frozen
        # graph is omitted, as in the first publication of the score.
        logits = "logits without bias" if frozen else "the module's logits"
        self.facts = {
            "extractor": f"Inception 2015 {kind}, {logits}",
            "sha256": digest,
            "resize": _RESIZE + (", in the graph" if frozen else ""),
        }
        self._run = _checked(load(path), path)

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """Returns features and logits; see `Extractor.__call__`."""
        features, logits = self._run(tf.convert_to_tensor(pixels))
        return features.numpy(), logits.numpy()


def resize(images: tf.Tensor) -> tf.Tensor:
    """Resizes to 299 px as TensorFlow 1 did, with aligned corners of pixels.

    src = dst * in / out; tf.image.resize has (dst + 1/2) * in / out - 1/2.
    """
    return tf.compat.v1.image.resize_bilinear(
        images, (SIDE, SIDE), align_corners=False, half_pixel_centers=False
    )


def _frozen(path: str) -> Run:
    """Returns the graph's function from uint8 pixels to pool_3 and logits."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(files.read(path))
    # protobuf's DecodeError has no stable public name.
    except Exception as error:
        raise ValueError(
            f"The file is not a frozen graph ({error}). {_WHERE} "
            f"Received: path={path!r}"
        ) from error

    nodes = {node.name: node for node in graph.node}
    if not {"pool_3", _PRODUCT, "ExpandDims"} <= set(nodes):
        raise _another(path, f"no nodes ExpandDims, pool_3 and {_PRODUCT}")
    # The weights of the logits, and nothing after pool_3, because from there
    # on the graph takes one image.
    table = nodes[_PRODUCT].input[1]
    graph = tf.compat.v1.graph_util.extract_sub_graph(
        graph, ["pool_3", table.partition(":")[0]]
    )

    def run(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pool, weights = tf.import_graph_def(
            graph,
            # Replaces the decoder, which also returns one image.
            input_map={"ExpandDims:0": tf.cast(pixels, tf.float32)},
            return_elements=["pool_3:0", table.partition(":")[0] + ":0"],
        )
        pool = tf.reshape(pool, [tf.shape(pixels)[0], weights.shape[0]])
        return pool, tf.matmul(pool, weights)

    return run


def _hub(path: str) -> Run:
    """Returns the SavedModel's function from pixels to pool_3 and logits."""
    module = tf.saved_model.load(files.without_wildcards(path))
    signatures = list(getattr(module, "signatures", {}).values())
    if not callable(module) and not signatures:
        raise ValueError(
            f"The SavedModel has no callable function. {_WHERE} "
            f"Received: path={path!r}"
        )

    def run(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = resize(tf.cast(pixels, tf.float32)) / 127.5 - 1.0
        found = module(images) if callable(module) else signatures[0](images)
        pool = tf.reshape(found["pool_3"], [tf.shape(pixels)[0], -1])
        return pool, found["logits"]

    return run


def _checked(run: Run, path: str) -> Run:
    """Returns the compiled function after checking its outputs."""
    run = tf.function(
        run, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    try:
        found = [int(x.shape[-1]) for x in run(np.zeros([2, 8, 8, 3], "uint8"))]
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise _another(path, str(error).strip().splitlines()[-1]) from error
    if found != [FEATURES, CLASSES]:
        raise _another(path, f"features and logits of {found}")
    return run


def _another(path: str, reason: str) -> ValueError:
    return ValueError(
        "This is not the 2015 Inception network, which gives "
        f"{FEATURES} features (pool_3) and {CLASSES} logits. {_WHERE} "
        f"Received: path={path!r}, {reason}"
    )


def _digest(path: str) -> str:
    """Returns the SHA-256 of a file, or of a folder's files with names."""
    result = hashlib.sha256()
    if files.is_file(path):
        result.update(files.read(path))
        return result.hexdigest()
    inside = sorted(
        files.join(folder, name)
        for folder, _, names in files.walk(path)
        for name in names
    )
    above = files.normalize(path).rstrip("/") + "/"
    for file in inside:
        result.update(file.removeprefix(above).encode() + b"\0")
        result.update(files.read(file))
    return result.hexdigest()
