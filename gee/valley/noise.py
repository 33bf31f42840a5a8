"""Random fields with a stated spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

__all__ = ["fractal", "ranks"]

Array = NDArray[np.float32]


def fractal(
    shape: tuple[int, int],
    random: np.random.Generator,
    *,
    pixel: float,
    longest: float,
    shortest: float = 0.0,
    slope: float = 3.0,
) -> Array:
    """Return a Gaussian random field whose power falls as wavelength**slope.

    Parameters
    ----------
    shape : (rows, cols)
    random : numpy Generator
    pixel : float
        Metres per pixel.
    longest : float
        Metres. Power is flat for longer waves, so the field is stationary beyond.
    shortest : float
        Metres. No power in shorter waves.
    slope : float
        Spectral exponent of the power per unit area in wavenumber; 2 is rough, 4 smooth.

    Returns
    -------
    float32 array, mean 0, standard deviation 1

    Examples
    --------
    >>> field = fractal((64, 48), np.random.default_rng(0), pixel=10, longest=200)
    >>> field.shape, round(float(field.std()), 3), abs(float(field.mean())) < 1e-5
    ((64, 48), 1.0, True)
    """
    # The transform is periodic; the spare rows and columns keep opposite edges independent.
    spare = int(min(longest / pixel, max(shape) / 2))
    rows, cols = (fft.next_fast_len(n + spare, real=True) for n in shape)
    white = random.standard_normal((rows, cols), dtype=np.float32)
    ky = fft.fftfreq(rows, pixel).astype(np.float32)[:, None]
    kx = fft.rfftfreq(cols, pixel).astype(np.float32)[None, :]
    wave = np.sqrt(kx * kx + ky * ky)
    gain = np.maximum(wave, np.float32(1.0 / longest)) ** np.float32(-slope / 2.0)
    if shortest > 0:
        gain *= np.exp(-((wave * np.float32(shortest / 2.0)) ** 4))
    gain[0, 0] = 0.0
    field = fft.irfft2(fft.rfft2(white) * gain, s=(rows, cols))[: shape[0], : shape[1]]
    field = field - field.mean()
    return np.asarray(field / field.std(), dtype=np.float32)


def ranks(field: Array) -> Array:
    """Return a Gaussian field of unit variance as shares 0..1 (its own distribution function).

    Examples
    --------
    >>> ranks(np.array([0.0], dtype="float32")).tolist()
    [0.5]
    """
    return np.asarray(special.ndtr(field), dtype=np.float32)
