"""Reference of the polyphase filterbank, in double precision, as in textbooks."""

import numpy as np
from numpy.typing import NDArray


def pfb(
    voltage: NDArray[np.complex128] | NDArray[np.float64],
    filter_: NDArray[np.float64],
    channels: int,
    valid: NDArray[np.bool_],
    times: int,
    hop: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return power [time, channel, product], moment4 [time, channel, pol] and count [time].

    voltage is [sample, raw channel, pol]; spectra are hop samples apart, by default the samples of a tap. Products are
    the polarisations and, of two of them, real and imaginary part of X Y*.
    """
    _, coarse, n_pols = voltage.shape
    step = 2 * channels if np.isrealobj(voltage) else channels
    products = 4 if n_pols == 2 else 1
    power = np.zeros((times, coarse * channels, products))
    moment4 = np.zeros((times, coarse * channels, n_pols))
    count = np.zeros(times, np.int64)
    for t in range(times):
        spectra = len(valid) // times
        for r in range(t * spectra, (t + 1) * spectra):
            if not valid[r]:
                continue
            count[t] += 1
            start = r * (hop or step)
            window = voltage[start : start + len(filter_)] * filter_[:, None, None]
            spectrum = np.fft.fft(window.reshape(-1, step, coarse, n_pols).sum(axis=0), axis=0)
            spectrum = spectrum[:channels] if step > channels else np.fft.fftshift(spectrum, axes=0)
            v = spectrum.transpose(1, 0, 2).reshape(-1, n_pols)
            power[t, :, :n_pols] += np.abs(v) ** 2
            moment4[t] += np.abs(v) ** 4
            if n_pols == 2:
                power[t, :, 2] += (v[:, 0] * v[:, 1].conj()).real
                power[t, :, 3] += (v[:, 0] * v[:, 1].conj()).imag
    scale = np.maximum(count, 1)[:, None, None]
    return power / scale, moment4 / scale, count
