import importlib
import inspect
import pkgutil

import atoll
from atoll import registry
from atoll.core.protocol import Protocol
from atoll.testing import check_card


def modules():
    for found in pkgutil.walk_packages(atoll.__path__, "atoll."):
        if not found.name.endswith("__main__"):
            yield found.name, importlib.import_module(found.name)


def test_every_protocol_is_listed_and_its_card_is_complete():
    defined = {name for name, module in modules() if isinstance(vars(module).get("PROTOCOL"), Protocol)}
    assert defined == set(registry.PROTOCOL_MODULES)
    for protocol in registry.protocols().values():
        check_card(protocol)


def test_every_module_with_kernels_is_compiled_by_warm():
    defined = {
        name
        for name, module in modules()
        if inspect.isfunction(warm := vars(module).get("warm")) and warm.__module__ == name
    }
    assert defined == set(registry.KERNEL_MODULES)
