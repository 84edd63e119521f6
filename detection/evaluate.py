"""COCO's figures of a results file, by pycocotools.

    python -m detection.evaluate --results=FILE --annotations=FILE

Prints the 12 box and the 12 mask figures. The results are a JSON list as
COCO defines it, each entry with image_id, category_id, score and bbox,
segmentation (RLE) or both. Masks are scored with their own areas, not with
those of their boxes: plain pycocotools does so in files of masks alone.

--backend=faster_coco_eval, where it is installed, takes a fraction of the
time. Its figures differ in the sixteenth digit alone: pycocotools adds a
rounding unit to every denominator.

A figure over some of the images is not COCO's: images without a result are
an error until --missing says what they are.
"""

import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import app, flags
from pycocotools import coco, cocoeval

Results = list[dict]
# COCO's order of figures, by the Model Garden's names.
FIGURES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl"),
)
PARTIAL = "partial_"
BACKENDS = ("pycocotools", "faster_coco_eval")
_KINDS = {"bbox": ("", "bbox"), "segm": ("mask_", "segmentation")}


def load_annotations(path: str) -> coco.COCO:
    """Reads COCO annotations.

    Raises:
      ValueError: no such file, or not COCO's format.
    """
    if not os.path.isfile(path):
        raise ValueError(
            f"There is no such annotation file. Received: annotations={path!r}"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = coco.COCO(path)
    missing = {"images", "annotations", "categories"} - set(annotations.dataset)
    if missing:
        raise ValueError(
            f"COCO annotations need {sorted(missing)}. "
            f"Received: annotations={path!r}"
        )
    return annotations


def score(
    results: Results,
    annotations: coco.COCO,
    images: Iterable[int] | None = None,
    per_category: bool = False,
    backend: str = "pycocotools",
    masks: bool = True,
) -> dict[str, float]:
    """COCO's figures, over all images or those given.

    An image without a result is one in which nothing was found.

    Args:
      results: COCO results.
      annotations: what is there.
      images: ids of the images to score over, when not all of them: each
        figure's name then begins with "partial_".
      per_category: AP of each category as well, as "AP/<name>".
      backend: one of `BACKENDS`.
      masks: False scores boxes alone: a model without masks finds none.

    Returns:
      Figures in [0, 1], -1 where there is nothing to find; those of masks,
      if the results have any, begin with "mask_".

    Raises:
      ValueError: duplicates, results of unknown images or categories; a
        backend that is not installed.
    """
    check(results, annotations)
    toolkit = _toolkit(backend)
    everything = set(annotations.getImgIds())
    chosen = everything if images is None else set(images)
    label = "" if chosen == everything else PARTIAL
    figures: dict[str, float] = {}
    for kind, (prefix, field) in _KINDS.items():
        mine = [entry for entry in results if field in entry]
        # Where nothing was found, what is annotated says what is scored.
        known = results or annotations.dataset["annotations"]
        absent = known and not any(field in entry for entry in known)
        if absent or (kind == "segm" and not masks):
            continue
        run = _run(mine, toolkit(annotations), kind, sorted(chosen))
        named = dict(zip(FIGURES, np.asarray(run.stats).tolist()))
        if per_category:
            named |= _by_category(run, annotations)
        figures |= {label + prefix + k: v for k, v in named.items()}
    return figures


def _toolkit(backend: str) -> Any:
    """Makes (annotations, evaluation class) of annotations."""
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {BACKENDS}. Received: backend={backend!r}"
        )
    if backend == "pycocotools":
        return lambda annotations: (annotations, cocoeval.COCOeval)
    if importlib.util.find_spec(backend) is None:
        raise ValueError(
            "faster-coco-eval is not installed: pip install faster-coco-eval, "
            f"or backend='pycocotools'. Received: backend={backend!r}"
        )
    import faster_coco_eval

    return lambda annotations: (
        faster_coco_eval.COCO(annotations.dataset),
        faster_coco_eval.COCOeval_faster,
    )


def _run(results: Results, tools: tuple, kind: str, images: list[int]) -> Any:
    """One evaluation; the packages print, and this does not."""
    annotations, evaluation = tools
    fields = ("image_id", "category_id", "score", _KINDS[kind][1])
    # Copies, for loadRes adds to them; of one geometry, for it takes the
    # areas from the boxes where it finds both.
    bare = [{field: entry[field] for field in fields} for entry in results]
    with contextlib.redirect_stdout(io.StringIO()):
        found = annotations.loadRes(bare) if bare else type(annotations)()
        run = evaluation(annotations, found, kind)
        run.params.imgIds = images
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def _by_category(run: Any, annotations: coco.COCO) -> dict[str, float]:
    """AP of each category: the mean over IoU and recall, -1 for none."""
    # [IoU, recall, category, area, detections]: all areas, most detections.
    precision = run.eval["precision"][:, :, :, 0, -1]
    figures = {}
    for index, category in enumerate(run.params.catIds):
        valid = precision[:, :, index]
        valid = valid[valid > -1]
        name = annotations.cats[category].get("name", category)
        figures[f"AP/{name}"] = float(np.mean(valid)) if valid.size else -1.0
    return figures


def check(results: Results, annotations: coco.COCO) -> None:
    """Refuses results that pycocotools would score wrongly or not at all.

    Raises:
      ValueError: duplicates, results of unknown images or categories, that
        lack something, or some of which have masks and some none.
    """
    seen = set()
    for entry in results:
        _check_fields(entry, results[0])
        image, category = entry["image_id"], entry["category_id"]
        if image not in annotations.imgs or category not in annotations.cats:
            raise ValueError(
                "A result is of an image or a category that the annotations "
                "do not have. Received: "
                f"image_id={image!r}, category_id={category!r}"
            )
        _check_size(entry, annotations.imgs[image])
        place = entry.get("bbox") or str(entry.get("segmentation"))
        key = (image, category, entry["score"], str(place))
        # A model may keep two boxes without an area: they overlap nothing.
        flat = any(side <= 0 for side in (entry.get("bbox") or ())[2:])
        if key in seen and not flat:
            raise ValueError(
                "The results hold one detection twice: an image was probably "
                "evaluated twice. Received twice: "
                f"image_id={image}, category_id={category}, "
                f"score={entry['score']}"
            )
        seen.add(key)


def _check_fields(entry: dict, first: dict) -> None:
    """Refuses an entry that is not whole, or not like the first."""
    missing = {"image_id", "category_id", "score"} - set(entry)
    kinds = [{"bbox", "segmentation"} & set(one) for one in (entry, first)]
    whole = not missing and np.isfinite(entry["score"])
    if not whole or not kinds[0] or kinds[0] != kinds[1]:
        raise ValueError(
            "A result needs image_id, category_id, a finite score, and bbox "
            "or segmentation, all results the same of these two. "
            f"Received: {str(entry)[:120]}"
        )


def _check_size(entry: dict, image: dict) -> None:
    """Refuses a mask that is not of its image: pycocotools does not."""
    code = entry.get("segmentation")
    size = [image["height"], image["width"]]
    if isinstance(code, dict) and list(code.get("size", ())) != size:
        raise ValueError(
            f"A result's mask is not of its image's size, expected {size}. "
            f"Received: image_id={image['id']}, size={code.get('size')}"
        )


def without_results(results: Results, annotations: coco.COCO) -> list[int]:
    """Ids of the annotated images that no result is of."""
    return sorted(set(annotations.imgs) - {r["image_id"] for r in results})


def score_file(
    results: str, annotations: str, missing: str, backend: str = "pycocotools"
) -> dict[str, float]:
    """The figures of a file.

    Args:
      results: path of the results.
      annotations: path of the annotations.
      missing: images without a result are an "error", "empty" (nothing was
        found in them) or to "skip" (the figures are labelled partial).
      backend: one of `BACKENDS`.

    Raises:
      ValueError: files that do not fit, images without a result.
    """
    truth = load_annotations(annotations)
    if not os.path.isfile(results):
        raise ValueError(
            f"There is no such results file. Received: results={results!r}"
        )
    with open(results, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, list):
        raise ValueError(f"Results must be a list. Received: {results!r}")
    check(found, truth)  # First: it names the cause where there are several.
    lacking = without_results(found, truth)
    if lacking and missing == "error":
        raise ValueError(
            f"{len(lacking)} of {len(truth.imgs)} images have no result, the "
            f"first has id {lacking[0]}. If nothing was found in them give "
            "--missing=empty; if they were not evaluated --missing=skip "
            f"scores the others. Received: results={results!r}"
        )
    images = None
    if missing == "skip":
        images = set(truth.imgs) - set(lacking)
    return score(found, truth, images, per_category=True, backend=backend)


def table(figures: dict[str, float]) -> str:
    """The figures as text, boxes beside masks."""
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
        lines.append("PARTIAL: over some of the images; not COCO's figures.")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Prints the figures of a file."""
    flag = flags.FLAGS
    figures = score_file(
        flag.results, flag.annotations, flag.missing, flag.backend
    )
    print(table(figures))


if __name__ == "__main__":
    flags.DEFINE_string("results", None, "JSON of detections.")
    flags.DEFINE_string("annotations", None, "COCO's JSON of annotations.")
    flags.DEFINE_enum(
        "missing",
        "error",
        ("error", "empty", "skip"),
        "What images without a result are.",
    )
    flags.DEFINE_enum("backend", BACKENDS[0], BACKENDS, "What computes them.")
    flags.mark_flags_as_required(["results", "annotations"])
    app.run(main)
