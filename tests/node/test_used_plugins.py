"""Which plug-ins a configuration names."""

import pytest

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import PluginError
from edgefilter.core.validation import validate
from edgefilter.node.used_plugins import used_plugins
from tests.helpers.packages import Installer

STAGE = """
from types import SimpleNamespace
from edgefilter.core.stage_settings import ReductionSection

class Settings(ReductionSection):
    pass

STAGE = SimpleNamespace(settings=Settings)
"""


def names(tree: dict) -> list[str]:
    return [
        f"{plugin.group.name} {plugin.name} {plugin.package}" for plugin in used_plugins(validate(NodeConfig, tree))
    ]


def test_stages_inputs_and_the_store_are_found(installer: Installer) -> None:
    installer.install("ef-stage", "edgefilter.stages", {"drift": "STAGE"}, STAGE)
    installer.install("ef-shelf", "edgefilter.stores", {"shelf": "x"})
    tree = {
        "stages": {"drift": {}},
        "store": {"path": "shelf://x"},
        "stream": [
            {"name": "a", "endpoint": "tcp://127.0.0.1:1"},
            {"name": "b", "endpoint": "tcp://127.0.0.1:2"},
            {"name": "c", "endpoint": "ipc:///x"},
        ],
    }
    found = names(tree)
    assert found == ["STAGES drift ef-stage", "INPUTS tcp edgefilter", "INPUTS ipc edgefilter", "STORES shelf ef-shelf"]


def test_a_path_is_a_store_of_edgefilter() -> None:
    assert names({"store": {"path": "folder"}})[-1] == "STORES file edgefilter"


def test_a_missing_store_is_an_error() -> None:
    with pytest.raises(PluginError, match="no store 'gs' is installed; installed: file, s3"):
        names({"store": {"path": "gs://bucket"}})
