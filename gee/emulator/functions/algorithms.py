"""Functions that Earth Engine lists without a family, and those that it has taken away."""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from .geometries import transform_feature
from .registry import function

__all__: list[str] = []


function("ProjectionTransform")(transform_feature)


def _removed(name: str) -> None:
    def refuse(*given: Any) -> Any:
        raise EngineError(
            "This classifier has been removed. For more information see: "
            "https://goo.gle/deprecated-classifiers."
        )

    function(f"Classifier.{name}")(refuse)


# Those whose description in the list says so ([A]).
for _name in (
    "naiveBayes", "gmoLinearRegression", "cart", "gmoMaxEnt", "ikpamir", "continuousNaiveBayes",
    "pegasosGaussian", "pegasosLinear", "pegasosPolynomial",
):  # fmt: skip
    _removed(_name)
