"""Other flaggers on the same arrays, if they are installed."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.harness import Bench
from benchmarks.rfi.scene import Scene
from benchmarks.rfi.score import Flagger, Mask


def peers(bench: Bench | None = None) -> dict[str, Flagger]:
    """Return the installed peers.

    Parameters
    ----------
    bench
        Records the peers that are not installed.

    Returns
    -------
    dict
        Flaggers by name.
    """
    found: dict[str, Flagger] = {"MAD per channel, 5 sigma": lambda scene: _mad(scene.power)}
    for module, name, flagger in (
        ("aoflagger", "AOFlagger, generic default", _aoflagger),
        ("iqrm", "IQRM of the standard deviation, whole block", _iqrm),
    ):
        if find_spec(module):
            found[name] = flagger
        elif bench:
            bench.skip(name, f"pip install {module}")
    return found


def _mad(power: Any) -> Mask:
    middle = np.median(power, axis=0)
    spread = 1.4826 * np.median(np.abs(power - middle), axis=0)
    return np.asarray(power > middle + 5 * spread)


def _aoflagger(scene: Scene) -> Mask:
    import aoflagger

    flagger = aoflagger.AOFlagger()
    data = flagger.make_image_set(scene.grid.times, scene.grid.channels, 1)
    data.set_image_buffer(0, np.ascontiguousarray(np.sqrt(scene.power.T), np.float64))
    path = flagger.find_strategy_file(aoflagger.TelescopeId.Generic)
    return np.asarray(flagger.load_strategy_file(path).run(data).get_buffer().T, np.bool_)


def _iqrm(scene: Scene) -> Mask:
    import iqrm

    bad, _ = iqrm.iqrm_mask(scene.power.std(axis=0), radius=scene.grid.channels // 10)
    return np.tile(bad, (scene.grid.times, 1))
