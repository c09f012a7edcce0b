"""The plug-ins that a configuration names."""

from edgefilter.core.config import NodeConfig
from edgefilter.core.endpoint import find_input
from edgefilter.plugins import Plugin
from edgefilter.store.connect import store_plugin


def used_plugins(config: NodeConfig) -> list[Plugin]:
    """Find the plug-ins of a node: its stages, the inputs of its streams, and its store.

    Parameters
    ----------
    config
        The configuration.

    Returns
    -------
    list of Plugin
        Each once; nothing is imported.

    Raises
    ------
    ConfigError
        If an endpoint has no scheme.
    PluginError
        If one is not installed.
    """
    inputs = [find_input(config.input_of(stream).endpoint) for stream in config.stream]
    return list(dict.fromkeys([*config.stages.plugins(), *inputs, store_plugin(config.store.path)]))
