"""Prediction by windows beside MONAI's sliding_window_inference, on nets with random weights.

    python benchmarks/prediction_peers.py [--rows N] [--columns N]

MONAI is no dependency (pip install monai). Random weights are the harder case: nothing in them has
learned to ignore the borders of a window.

- same windows, same weights: MONAI is given our weights (roi_weight_map); the largest difference
  over all pixels, borders and corners included, must stay below 1e-4;
- its own gaussian weights: the same windows, MONAI's mode "gaussian"; the largest difference, which
  must stay below 1e-4 for a model of single pixels. Nets contradict themselves where windows meet,
  so there the weights are the result: for the convolution, whose map in one piece is the truth,
  the largest error of both is told, inside (off the border of the raster by its reach);
- one missing pixel: how many pixels of the map change, which must be those in reach of it; MONAI
  has no notion of missing values, so there a NaN is given to the model as it is;
- speed and memory: both on one thread; MONAI holds the whole raster and its result.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _nets import random_members
from numpy.typing import NDArray

from thawslump.files import write_json

Floats = NDArray[np.float32]
WINDOW, OVERLAP = 256, 64
LIMIT = 1e-4


def small_members() -> list[tuple[str, Any]]:
    """Return a model of single pixels and a convolution that reaches 4 pixels."""
    import torch

    from trainer.segmentation.predict import Member

    torch.manual_seed(0)
    reach = torch.nn.Conv2d(3, 1, 9, padding=4).eval()
    every = ((0, 1, 2), (0.0,) * 3, (1.0,) * 3)
    return [
        ("single pixels", Member("pixels", lambda x: x[:, :1] - x[:, 1:2], *every)),
        ("convolution, reach 4", Member("convolution", reach, *every)),
    ]


def monai_map(member: Any, array: Floats, **options: Any) -> Floats:
    """Return MONAI's probability."""
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        found = sliding_window_inference(
            torch.from_numpy(array)[None],
            (WINDOW, WINDOW),
            1,
            lambda x: torch.sigmoid(member.model(x.contiguous(memory_format=torch.channels_last))),
            overlap=OVERLAP / WINDOW,
            **options,
        )
    return np.asarray(found[0, 0].numpy())


def timed(work: Callable[[], Floats]) -> tuple[Floats, float]:
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--columns", type=int, default=832)
    arguments = parser.parse_args()
    try:
        import monai
    except ImportError:
        print("SKIPPED: MONAI is not installed (pip install monai); nothing was compared.")
        return 0
    import torch

    from trainer.segmentation.blend import ramp
    from trainer.segmentation.predict import predict_array
    from trainer.segmentation.train import reproducible

    step = WINDOW - OVERLAP
    sides = [
        WINDOW + step * round((n - WINDOW) / step) for n in (arguments.rows, arguments.columns)
    ]
    # MONAI moves the last window back to the border instead of padding: on these sides both
    # begin at the same pixels.
    random = np.random.default_rng(0)
    array = random.normal(size=(3, *sides)).astype("float32")
    weight = torch.from_numpy(np.outer(ramp(WINDOW, OVERLAP), ramp(WINDOW, OVERLAP)))
    inside = (slice(4, -4),) * 2
    members = [*small_members(), *((m.name, m) for m in random_members(3))]
    rows, met = [], True
    with reproducible(0, 1):
        for name, member in members:
            ours, seconds = timed(
                lambda m=member: (
                    predict_array([m], array, window=WINDOW, overlap=OVERLAP).probability
                )
            )
            same, peer_seconds = timed(lambda m=member: monai_map(m, array, roi_weight_map=weight))
            gaussian = monai_map(member, array, mode="gaussian")
            row = {
                "model": name,
                "same_weights": float(abs(ours - same).max()),
                "gaussian": float(abs(ours - gaussian).max()),
                "mpx_per_second": ours.size / seconds / 1e6,
                "monai_mpx_per_second": ours.size / peer_seconds / 1e6,
            }
            met &= row["same_weights"] < LIMIT
            if name == "single pixels":
                met &= row["gaussian"] < LIMIT
            rows.append(row)
        name, member = members[1]
        whole = -(-max(sides) // 32) * 32
        truth = predict_array([member], array, window=whole, overlap=0).probability
        ours = predict_array([member], array, window=WINDOW, overlap=OVERLAP).probability
        seams = {
            "ours": float(abs(ours - truth)[inside].max()),
            "monai": float(abs(monai_map(member, array, mode="gaussian") - truth)[inside].max()),
        }
        holed = array.copy()
        place = (sides[0] // 2, sides[1] // 2)
        holed[(slice(None), *place)] = np.nan
        before = predict_array([member], array, window=WINDOW, overlap=OVERLAP).probability
        after = predict_array([member], holed, window=WINDOW, overlap=OVERLAP).probability
        changed = before != after
        far = np.argwhere(changed) - place
        reach = int(abs(far).max())
        peer = monai_map(member, holed, roi_weight_map=weight)
        hole = {
            "changed": int(changed.sum()),
            "reach": reach,
            "lost": int(np.isnan(after).sum()),
            "monai_lost": int(np.isnan(peer).sum()),
        }
        met &= reach <= 4 and hole["lost"] == 1
    print(
        f"MONAI {monai.__version__}; {sides[0]} x {sides[1]} pixels, 3 bands of noise (made up), "
    )
    print(f"windows of {WINDOW}, overlap {OVERLAP}, one thread. Largest difference:")
    print(f"{'model':22} {'same weights':>13} {'its gaussian':>17} {'Mpx/s':>7} {'MONAI':>7}")
    for row in rows:
        print(
            f"{row['model']:22} {row['same_weights']:13.1e} {row['gaussian']:17.1e} "
            f"{row['mpx_per_second']:7.2f} {row['monai_mpx_per_second']:7.2f}"
        )
    print(
        f"seams of the convolution against one piece: {seams['ours']:.4f}, MONAI's gaussian "
        f"{seams['monai']:.4f}"
    )
    print(
        f"one missing pixel, convolution of reach 4: {hole['changed']} pixels change, up to "
        f"{hole['reach']} away, {hole['lost']} is nodata; MONAI loses {hole['monai_lost']}"
    )
    print(f"{'met' if met else 'MISSED'}: agreement to {LIMIT:g}, and the hole stays in reach")
    write_json(
        Path(__file__).parent / "results" / "prediction_peers.json",
        {
            "made_up": True,
            "monai": monai.__version__,
            "models": rows,
            "seams": seams,
            "hole": hole,
            "shape": sides,
        },
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
