"""COCO's figures once more, by their definition and without pycocotools.

Slow and plain: dense masks, loops over everything. Polygons alone are traced
by pycocotools; how is a convention and no definition.
"""

import numpy as np
from pycocotools import mask as mask_api

_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))


def _runs(text):
    """Run lengths of a compressed RLE, a character at a time."""
    runs, place = [], 0
    while place < len(text):
        number, bits, more = 0, 0, True
        while more:
            code = ord(text[place]) - 48
            number |= (code & 31) << bits
            more, bits, place = bool(code & 32), bits + 5, place + 1
            if not more and code & 16:
                number -= 1 << bits
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    return runs


def mask(segmentation, size):
    """[H, W], bool, of a segmentation in an image of that size."""
    if isinstance(segmentation, list):
        parts = mask_api.frPyObjects(segmentation, *size)
        return mask_api.decode(mask_api.merge(parts)).astype(bool)
    counts = segmentation["counts"]
    runs = counts if isinstance(counts, list) else _runs(counts)
    ones = np.arange(len(runs)) % 2
    return np.repeat(ones, runs).reshape(*size[::-1]).T.astype(bool)


def _box_iou(found, there, crowd):
    (x, y, w, h), (a, b, c, d) = found, there
    across = min(x + w, a + c) - max(x, a)
    down = min(y + h, b + d) - max(y, b)
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / (w * h if crowd else w * h + c * d - both)


def _mask_iou(found, there, crowd):
    both = np.sum(found & there)
    whole = found.sum() if crowd else np.sum(found | there)
    return both / whole if both else 0.0


def area(annotation, size):
    """Of an annotation, as it says or as everyone means."""
    if annotation.get("area") is not None:
        return annotation["area"]
    if annotation.get("segmentation") and None not in size:
        return mask(annotation["segmentation"], size).sum()
    return annotation["bbox"][2] * annotation["bbox"][3]


def figures(truth, results, kind):
    """The 12 figures, in COCO's order, of boxes or of masks."""
    iou = _box_iou if kind == "bbox" else _mask_iou
    sizes = {
        image["id"]: (image.get("height"), image.get("width"))
        for image in truth["images"]
    }

    def shape(entry):
        if kind == "bbox":
            return entry["bbox"]
        size = [int(side) for side in sizes[entry["image_id"]]]
        return mask(entry["segmentation"], size)

    there, found = {}, {}
    for one in truth.get("annotations", ()):
        key = one["category_id"], one["image_id"]
        crowd = bool(one.get("iscrowd"))
        size = area(one, sizes[one["image_id"]])
        there.setdefault(key, []).append((shape(one), size, crowd))
    for one in results:
        key = one["category_id"], one["image_id"]
        form = shape(one)
        size = form[2] * form[3] if kind == "bbox" else form.sum()
        found.setdefault(key, []).append((form, size, one["score"]))
    categories = [
        [
            _Image(
                there.get((category["id"], image), []),
                found.get((category["id"], image), []),
                iou,
            )
            for image in sorted(sizes)
        ]
        for category in truth["categories"]
    ]

    def curves(limits, most=100):
        """[categories, IoUs, 102]: precision at each recall, last recall."""
        return np.array(
            [
                [_curve(images, limits, most, least) for least in _IOUS]
                for images in categories
            ]
        )

    def mean(values):
        valid = values[values > -1]
        return valid.mean() if valid.size else -1.0

    every, *ranges = (curves(limits) for limits in _AREAS)
    return [
        mean(every[..., :-1]),
        *(mean(every[:, index, :-1]) for index in (0, 5)),
        *(mean(one[..., :-1]) for one in ranges),
        *(mean(curves(_AREAS[0], most)[..., -1]) for most in (1, 10)),
        *(mean(one[..., -1]) for one in (every, *ranges)),
    ]


class _Image:
    """Objects and detections of one category in one image."""

    def __init__(self, there, found, iou):
        self.there = there
        order = sorted(range(len(found)), key=lambda i: -found[i][2])[:100]
        self.found = [found[i] for i in order]
        self.ious = [[iou(f[0], t[0], t[2]) for t in there] for f in self.found]

    def match(self, limits, least):
        """Scores, hits and misses to leave out, best first; objects to find."""

        def outside(size):
            return size < limits[0] or size > limits[1]

        ignored = [crowd or outside(size) for _, size, crowd in self.there]
        # What counts is looked at first.
        order = sorted(range(len(self.there)), key=lambda i: ignored[i])
        taken, marks = set(), []
        for (_, size, score), ious in zip(self.found, self.ious):
            best, reached = None, min(least, 1 - 1e-10)
            for i in order:
                if i in taken and not self.there[i][2]:
                    continue
                if best is not None and ignored[i] and not ignored[best]:
                    break
                if ious[i] >= reached:
                    best, reached = i, ious[i]
            if best is not None:
                taken.add(best)
            hidden = outside(size) if best is None else ignored[best]
            marks.append((score, best is not None, hidden))
        return marks, ignored.count(False)


def _curve(images, limits, most, least):
    """Precision at each recall, then the last recall; -1 without an object."""
    marks, total = [], 0
    for image in images:
        mine, count = image.match(limits, least)
        marks += mine[:most]
        total += count
    if not total:
        return np.full(len(_RECALLS) + 1, -1.0)
    marks.sort(key=lambda mark: -mark[0])
    hits = np.array([hit for _, hit, hidden in marks if not hidden], bool)
    right = np.cumsum(hits)
    rates = right / total
    values = right / np.arange(1, len(hits) + 1)
    values = np.maximum.accumulate(values[::-1])[::-1]
    places = np.searchsorted(rates, _RECALLS, side="left")
    # Where a recall is not reached: 0.
    precision = np.append(values, 0.0)[places]
    return np.append(precision, rates[-1] if len(hits) else 0.0)
