"""Settings of the stages that plug-ins bring: sections ``[stages.NAME]``."""

from typing import Any

from pydantic import ConfigDict, SerializeAsAny, create_model, model_validator

from edgefilter.core.errors import PluginError
from edgefilter.core.node_sections import Section
from edgefilter.plugins import Group, Plugin, get_plugin


class ReductionSection(Section):
    """A section of settings that products depend on: their digest is stored with every product."""


class StagesSection(Section):
    """Stages of plug-ins, a section ``[stages.NAME]`` for each; an empty section runs the stage with its defaults.

    ``edgefilter plugins`` lists the installed stages.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, SerializeAsAny[ReductionSection]]

    @model_validator(mode="before")
    @classmethod
    def _validate_each(cls, tree: Any) -> Any:
        """Validate each section with the settings class of its plug-in; no other plug-in is imported."""
        if not isinstance(tree, dict) or not tree:
            return tree
        try:
            fields: dict[str, Any] = {name: (_settings_class(name), ...) for name in tree}
        except PluginError as error:
            raise ValueError(str(error)) from None
        checked = create_model("Stages", __base__=Section, **fields).model_validate(tree)
        return {name: getattr(checked, name) for name in tree}

    def __bool__(self) -> bool:
        return bool(self.sections())

    def sections(self) -> dict[str, ReductionSection]:
        """Return the settings of the stages by name, sorted by name: the order in which their tables are made."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    def plugins(self) -> list[Plugin]:
        """Return the plug-ins of the stages, in the order of :meth:`sections`.

        Raises
        ------
        PluginError
            If one is no longer installed.
        """
        return [get_plugin(Group.STAGES, name) for name in self.sections()]

    def canonical(self) -> dict[str, Any]:
        """Return what products depend on: name and version of each package, and all settings of its stage."""
        return {
            plugin.name: {"package": plugin.provenance, "settings": section.model_dump(mode="json")}
            for plugin, section in zip(self.plugins(), self.sections().values(), strict=True)
        }


def _settings_class(name: str) -> type[ReductionSection]:
    plugin = get_plugin(Group.STAGES, name)
    settings = getattr(plugin.load(), "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ReductionSection)):
        raise PluginError(f"{plugin.title}: {plugin.target}.settings must be a subclass of ReductionSection")
    return settings
