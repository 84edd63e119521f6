"""Computes COCO's metrics of a results file with pycocotools.

    python -m detection.evaluate --results=FILE --annotations=FILE

Prints the 12 box and the 12 mask metrics. The results are a JSON list as
defined by COCO, each entry with image_id, category_id, score and bbox,
segmentation (RLE) or both. Masks are scored with their own areas, not with
those of their boxes; pycocotools does this only for files with masks alone.

--backend=faster_coco_eval, if it is installed, takes a fraction of the time.
Its metrics differ only in the sixteenth digit, because pycocotools adds a
rounding unit to every denominator.

Both files are validated entry by entry before scoring, because neither package
does so (see `detection.coco_format`). Metrics over some of the images are not
COCO's, so images without a result are an error unless --missing says how to
treat them.
"""

import contextlib
import importlib.util
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import flags
from pycocotools import coco, cocoeval

from detection import coco_format, coco_json, ground_truth, masks
from detection.coco_format import Faults
from detection.ground_truth import GroundTruth
from training import commands
from training.images.folders import Counts

Results = list[dict]
# COCO's order of metrics, with the Model Garden's names.
FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "ARmax1",
    "ARmax10",
    "ARmax100",
    "ARs",
    "ARm",
    "ARl",
)
PARTIAL = "partial_"
BACKENDS = ("pycocotools", "faster_coco_eval")
_KINDS = {"bbox": ("", "bbox"), "segm": ("mask_", "segmentation")}


def score(
    results: Results,
    truth: GroundTruth,
    images: Iterable[int] | None = None,
    per_category: bool = False,
    backend: str = "pycocotools",
    masks: bool = True,
    source: str = coco_json.RESULTS,
) -> dict[str, float]:
    """Computes COCO's metrics, over all images or the given ones.

    In an image without a result nothing was detected.

    Args:
      results: COCO results.
      truth: the ground truth.
      images: ids of the images to score, if not all of them; the names of the
        metrics then begin with "partial_".
      per_category: whether to include the AP of each category, "AP/<name>".
      backend: one of `BACKENDS`.
      masks: whether to score masks; False for a model without masks.
      source: the name of the results in messages.

    Returns:
      Metrics in [0, 1], -1 if there are no objects; those of masks, if the
      results have any, begin with "mask_".

    Raises:
      ValueError: if `check` rejects results, masks are scored against
        annotations without masks, or the backend is not installed.
    """
    found = check(enumerate(results), truth, source=source)
    return _score(found, truth, images, per_category, backend, masks)


def names(categories: Iterable[str], masks: bool, partial: bool) -> list[str]:
    """Returns the names of the metrics that `score` computes.

    Args:
      categories: names of those whose AP is included.
      masks: whether masks are scored.
      partial: whether only some of the images are.
    """
    label = PARTIAL if partial else ""
    kinds = [prefix for prefix, _ in _KINDS.values()]
    return [
        f"{label}{prefix}{name}"
        for prefix in (kinds if masks else kinds[:1])
        for name in [*FIGURES, *(f"AP/{one}" for one in categories)]
    ]


def _score(
    results: Results,
    truth: GroundTruth,
    images: Iterable[int] | None,
    per_category: bool,
    backend: str,
    masks: bool = True,
) -> dict[str, float]:
    """Scores validated results; see `score`."""
    toolkit = _toolkit(backend)
    chosen = set(truth.images) if images is None else set(images)
    if not chosen:
        raise ValueError(
            "There is no image to score: none has a result, or none was "
            "evaluated. If nothing was detected in any image, pass "
            f"--missing=empty. Received: 0 of {len(truth.images)} images of "
            f"annotations={truth.path!r}"
        )
    label = "" if chosen == set(truth.images) else PARTIAL
    figures: dict[str, float] = {}
    # Without detections, the annotations determine what is scored.
    known = results or truth.annotations()
    for kind, (prefix, field) in _KINDS.items():
        absent = known and not any(field in entry for entry in known)
        if absent or (kind == "segm" and not masks):
            continue
        run = _run(results, truth, toolkit, kind, sorted(chosen))
        named = dict(zip(FIGURES, np.asarray(run.stats).tolist()))
        if per_category:
            named |= _by_category(run, truth.categories)
        figures |= {label + prefix + k: v for k, v in named.items()}
    return figures


def _toolkit(backend: str) -> tuple[Any, Any]:
    """Classes of annotations and of an evaluation."""
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {BACKENDS}. Received: backend={backend!r}"
        )
    if backend == "pycocotools":
        return coco.COCO, cocoeval.COCOeval
    if importlib.util.find_spec(backend) is None:
        raise ValueError(
            "faster-coco-eval is not installed: pip install faster-coco-eval, "
            f"or backend='pycocotools'. Received: backend={backend!r}"
        )
    import faster_coco_eval

    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def _run(
    results: Results,
    truth: GroundTruth,
    toolkit: tuple[Any, Any],
    kind: str,
    images: list[int],
) -> Any:
    """Runs one evaluation without the output that the packages print."""
    dataset, evaluation = toolkit
    annotations = dataset()
    annotations.dataset = _dataset(truth, kind)
    fields = ("image_id", "category_id", "score", _KINDS[kind][1])
    # Copies, because loadRes modifies them; with one geometry only, because
    # loadRes takes the areas from the boxes if there are both.
    bare = [{field: entry[field] for field in fields} for entry in results]
    with contextlib.redirect_stdout(io.StringIO()):
        annotations.createIndex()
        found = annotations.loadRes(bare) if bare else dataset()
        run = evaluation(annotations, found, kind)
        run.params.imgIds = images
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def _dataset(truth: GroundTruth, kind: str) -> dict[str, list[dict]]:
    """A copy of the scored fields as COCO's JSON; the packages modify it.

    Annotations are renumbered from 1, because pycocotools takes 0 for "no
    match".
    """
    if kind == "segm":
        truth.maskless.check()
    annotations = []
    for number, one in enumerate(truth.annotations(), start=1):
        fields = ("image_id", "category_id", "bbox", "area", "iscrowd")
        annotations.append({key: one[key] for key in fields} | {"id": number})
        if kind == "segm":
            size = _size(truth.images[one["image_id"]], truth)
            mask = masks.rle(one["segmentation"], *size)
            annotations[-1]["segmentation"] = mask
    return {
        "images": [dict(image) for image in truth.images.values()],
        "annotations": annotations,
        "categories": [
            {"id": k, "name": v} for k, v in truth.categories.items()
        ],
    }


def _size(image: dict, truth: GroundTruth) -> tuple[int, int]:
    """Height and width of an image, which scoring masks requires."""
    if not {"height", "width"} <= set(image):
        raise ValueError(
            "Scoring masks requires the height and width of each image. "
            f"Received: file={truth.path!r}, image {image}"
        )
    return image["height"], image["width"]


def _by_category(run: Any, categories: dict[int, str]) -> dict[str, float]:
    """Returns the AP of each category, -1 for none."""
    # [IoU, recall, category, area, detections]: all areas, most detections.
    precision = run.eval["precision"][:, :, :, 0, -1]
    figures = {}
    for index, category in enumerate(run.params.catIds):
        valid = precision[:, :, index]
        valid = valid[valid > -1]
        name = f"AP/{categories[category]}"
        figures[name] = float(np.mean(valid)) if valid.size else -1.0
    return figures


def check(
    results: Iterable[tuple[int, Any]],
    truth: GroundTruth,
    counts: Counts | None = None,
    source: str = coco_json.RESULTS,
) -> Results:
    """Validates results, which pycocotools and faster-coco-eval do not.

    Args:
      results: pairs of index and entry.
      truth: the ground truth.
      counts: gets counts of the defaults that were filled in.
      source: the name of the results in messages.

    Returns:
      The results with the fields that are scored.

    Raises:
      ValueError: invalid values, duplicates, results of unknown images or
        categories, or only some with masks; names the first ones.
    """
    faults = Faults(source)
    counts = Counts() if counts is None else counts
    clean: Results = []
    seen: set[tuple] = set()
    for number, entry in results:

        def note(what: str, place=(coco_json.RESULTS, number, entry)) -> None:
            counts.note(what, coco_json.name(*place))

        try:
            one = coco_format.detection(entry, note)
            _check_fit(one, truth)
            _check_like(one, clean[0] if clean else one)
            _check_new(one, seen)
        except ValueError as error:
            faults.add(coco_json.RESULTS, number, entry, error)
        else:
            clean.append(one)
    faults.check()
    return clean


def _check_fit(entry: dict, truth: GroundTruth) -> None:
    """Checks that a result has an image and a category."""
    image, category = entry["image_id"], entry["category_id"]
    if image not in truth.images or category not in truth.categories:
        raise ValueError(
            "its image or its category is not in the annotations. "
            f"Received: image_id={image}, category_id={category}, "
            f"annotations={truth.path!r}"
        )
    if "segmentation" in entry:
        size = _size(truth.images[image], truth)
        masks.check_size(entry["segmentation"]["size"], *size)


def _check_like(entry: dict, first: dict) -> None:
    """Checks that a result has a box, a mask or both as the first has."""
    fields = {"bbox", "segmentation"}
    if fields & set(entry) != fields & set(first):
        raise ValueError(
            "all results must have boxes, all masks, or all both. Received: "
            f"{sorted(fields & set(entry))}, the first has "
            f"{sorted(fields & set(first))}"
        )


def _check_new(entry: dict, seen: set[tuple]) -> None:
    """Checks that a result is not a duplicate."""
    box, mask = entry.get("bbox"), entry.get("segmentation")
    place = (box and tuple(box), mask and mask["counts"])
    key = (entry["image_id"], entry["category_id"], entry["score"], place)
    # A model may return two empty boxes or masks, which overlap nothing.
    if key in seen and (min(box[2:]) if box else masks.area(mask)):
        raise ValueError(
            "it is a duplicate: an image was probably evaluated twice. "
            f"Received: category_id={key[1]}, score={key[2]}"
        )
    seen.add(key)


def without_results(results: Results, truth: GroundTruth) -> list[int]:
    """Returns the ids of annotated images without a result."""
    return sorted(set(truth.images) - {r["image_id"] for r in results})


def score_file(
    results: str,
    annotations: str,
    missing: str,
    backend: str = "pycocotools",
    counts: Counts | None = None,
) -> dict[str, float]:
    """Computes the metrics of a file.

    Args:
      results: path of the results.
      annotations: path of the annotations.
      missing: treat images without a result as an "error", as "empty" (nothing
        was detected in them), or "skip" them (the metrics are partial).
      backend: one of `BACKENDS`.
      counts: gets counts of the defaults filled in, in both files.

    Raises:
      ValueError: if the files do not match or images have no result.
    """
    counts = Counts() if counts is None else counts
    truth = ground_truth.load(annotations)
    counts.add(truth.filled)
    # Checked first, because it is the cause of other errors.
    found = check(coco_json.items(results), truth, counts, results)
    lacking = without_results(found, truth)
    if lacking and missing == "error":
        raise ValueError(
            f"{len(lacking)} of {len(truth.images)} images have no result; "
            f"the first has id {lacking[0]}. If nothing was detected in them, "
            "pass --missing=empty; if they were not evaluated, --missing=skip "
            f"scores the others. Received: results={results!r}"
        )
    images = None
    if missing == "skip":
        images = set(truth.images) - set(lacking)
    return _score(found, truth, images, True, backend)


def table(figures: dict[str, float]) -> str:
    """Returns the metrics as text, boxes next to masks."""
    partial = any(name.startswith(PARTIAL) for name in figures)
    label = PARTIAL if partial else ""
    named = [name.removeprefix(label) for name in figures]
    names = [*FIGURES, *(name for name in named if name.startswith("AP/"))]
    lines = [f"{'':12}{'box':>10}{'mask':>10}"]
    for name in names:
        pair = (figures.get(label + name), figures.get(f"{label}mask_{name}"))
        cells = ("-" if v is None else f"{v:.4f}" for v in pair)
        lines.append(f"{name:12}" + "".join(f"{cell:>10}" for cell in cells))
    if partial:
        lines.append("PARTIAL: over some of the images; not COCO's metrics.")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Prints the metrics of a file."""
    flag, counts = flags.FLAGS, Counts()
    figures = score_file(
        *(flag.results, flag.annotations, flag.missing, flag.backend), counts
    )
    print("\n".join([*counts.lines(coco_format.FILLED), table(figures)]))


if __name__ == "__main__":
    flags.DEFINE_string("results", None, "JSON file of detections.")
    flags.DEFINE_string("annotations", None, "COCO's JSON file of annotations.")
    flags.DEFINE_enum(
        "missing",
        "error",
        ("error", "empty", "skip"),
        "How to treat images without a result.",
    )
    flags.DEFINE_enum("backend", BACKENDS[0], BACKENDS, "Package to use.")
    flags.mark_flags_as_required(["results", "annotations"])
    commands.run(main)
