"""A twin has what the kernels' module has: the same public functions, the same parameters."""

import importlib
import inspect
from pathlib import Path

import pytest

from edgefilter_kernels import cuda

HELPERS = {"__init__", "raw", "cells", "batch"}
TWINS = sorted({path.stem for path in Path(cuda.__file__).parent.glob("*.py")} - HELPERS)


def functions(module):
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    return {name: getattr(module, name) for name in names if getattr(module, name).__module__ == module.__name__}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_same_functions(name):
    kernels = functions(importlib.import_module(f"edgefilter_kernels.{name}"))
    twins = functions(importlib.import_module(f"edgefilter_kernels.cuda.{name}"))
    common = kernels.keys() & twins.keys()
    assert common
    for function in common:
        theirs, ours = (inspect.signature(one[function]).parameters for one in (kernels, twins))
        assert list(theirs) == list(ours), function


def test_nothing_that_flags_is_without_a_twin():
    for name in ("quantile", "rise", "evidence", "guard", "combine"):
        kernels = functions(importlib.import_module(f"edgefilter_kernels.{name}"))
        assert kernels.keys() <= functions(importlib.import_module(f"edgefilter_kernels.cuda.{name}")).keys()
