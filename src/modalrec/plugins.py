"""Plug-ins: one file in a kind's folder, found by looking, listed nowhere.

A kind is a sub-package such as `modalrec.quantizers`; its `__init__` names the base class as `BASE`. A plug-in
is a module of that folder that defines one subclass of the base. Its nested or module-level `Config` has
`name: Literal["<module>"]`. Modules whose names begin with `_` are helpers. Other packages add plug-ins through the
entry point group `modalrec.<kind>`.
"""

import functools
import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from typing import Annotated, Any, Union

from pydantic import Field

from modalrec.errors import ConfigError

KINDS = ("sources", "encoders", "fusers", "quantizers", "recommenders")


@functools.cache
def discover(kind: str) -> dict[str, Any]:
    """All plug-ins of a kind by name, in alphabetical order.

    Raises:
        ConfigError: A module of the folder does not hold exactly one plug-in, or a name is taken twice.
    """
    package = importlib.import_module(f"modalrec.data.{kind}" if kind == "sources" else f"modalrec.{kind}")
    modules = [f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    classes = [_plugin(importlib.import_module(name), package.BASE) for name in modules if "._" not in name]
    classes += [entry.load() for entry in entry_points(group=f"modalrec.{kind}")]
    found: dict[str, Any] = {}
    for cls in classes:
        name = cls.Config.model_fields["name"].default
        if name in found:
            raise ConfigError(f"{kind}: {found[name].__module__} and {cls.__module__} are both named {name!r}")
        found[name] = cls
    return dict(sorted(found.items()))


def create(kind: str, config: Any, *args: Any, **kwargs: Any) -> Any:
    """Builds the plug-in that a configuration belongs to: `cls(config, *args, **kwargs)`."""
    return discover(kind)[config.name](config, *args, **kwargs)


def any_config(kind: str) -> Any:
    """The type of a configuration field that takes any plug-in of a kind, chosen by `name`."""
    configs = tuple(cls.Config for cls in discover(kind).values())
    return Annotated[Union[configs], Field(discriminator="name")] if len(configs) > 1 else configs[0]  # noqa: UP007


def _plugin(module: Any, base: type) -> Any:
    own = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, base) and cls is not base and cls.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise ConfigError(f"{module.__name__}: a plug-in file defines one {base.__name__}, this one {len(own)}")
    return own[0]
