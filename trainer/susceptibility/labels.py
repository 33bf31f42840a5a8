"""What every estimator here asks of the labels it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["two_classes"]


def two_classes(model: Any, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the two classes, ascending, and the number (0 or 1) of each label's.

    Raises
    ------
    ValueError
        Not two classes; names the model.

    Examples
    --------
    >>> classes, target = two_classes("any model", np.array(["no", "yes", "no"]))
    >>> classes.tolist(), target.tolist()
    (['no', 'yes'], [0, 1, 0])
    """
    check_classification_targets(labels)
    classes, target = np.unique(labels, return_inverse=True)
    if classes.size != 2:
        raise ValueError(
            f"{type(model).__name__} was given {classes.size} class"
            f"{'' if classes.size == 1 else 'es'}; expected two. Only binary classification is "
            "supported."
        )
    return classes, target
