"""The nine architectures of segmentation-models-pytorch by name, started from random weights."""

from __future__ import annotations

import torch
from torch import nn

from thawslump.errors import ConfigError, nearest

__all__ = ["STRIDE", "build", "encoders", "parameters"]

STRIDE = 32
"""Sides of an input are multiples of this."""


def encoders() -> list[str]:
    """Return the encoder names of segmentation-models-pytorch; any of timm's works as tu-NAME."""
    from segmentation_models_pytorch.encoders import get_encoder_names

    return sorted(get_encoder_names())


def build(architecture: str, encoder: str, channels: int, depth: int | None = None) -> nn.Module:
    """Return a model that maps (n, channels, y, x) to logits (n, 1, y, x).

    Parameters
    ----------
    architecture : str
        unet, unetplusplus, manet, linknet, fpn, pspnet, pan, deeplabv3 or deeplabv3plus.
    encoder : str
        A name of `encoders()`, or tu-NAME for an encoder of timm.
    channels : int
        Number of input bands.
    depth : int, optional
        Stages of the encoder, 3 to 5; the architecture's own number where not given.

    Returns
    -------
    torch.nn.Module
        Random weights from torch's global generator, channels-last layout, training mode.

    Raises
    ------
    ConfigError
        No such architecture or encoder, or the two do not go together.
    """
    import segmentation_models_pytorch as smp

    try:
        model = smp.create_model(
            architecture,
            encoder_name=encoder,
            encoder_weights=None,
            in_channels=channels,
            classes=1,
            **_options(architecture, depth),
        )
    except (KeyError, RuntimeError) as error:
        raise ConfigError(
            f"There is no encoder {encoder!r} ({type(error).__name__})."
            + nearest(encoder, encoders()),
            hint="Names are those of segmentation-models-pytorch; tu-NAME takes one from timm.",
        ) from error
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"Architecture {architecture!r} cannot be built on encoder {encoder!r}: {error}.",
            hint="resnet18 works with all nine architectures.",
        ) from error
    module: nn.Module = model.to(memory_format=torch.channels_last)
    return module


def _options(architecture: str, depth: int | None) -> dict[str, object]:
    """Return what the library leaves to its caller where the depth is not its default."""
    if depth is None:
        return {}
    options: dict[str, object] = {"encoder_depth": depth}
    if architecture in ("unet", "unetplusplus", "manet"):
        options["decoder_channels"] = (256, 128, 64, 32, 16)[-depth:]
    elif architecture == "fpn":
        options["upsampling"] = 2 ** (depth - 3)
    elif architecture == "pspnet":
        options["upsampling"] = 2**depth
    return options


def parameters(model: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
