"""Lets the few modules of executorch that read and write a .pte load without its compiler.

The packages that these modules are in import all of the compiler: seconds, where the modules take
a tenth of one. Such a package is deferred here: its own code runs when somebody asks for one of its
names, or imports any other module of it. So everybody else finds the package as it always is.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_loader
from threading import RLock
from types import ModuleType
from typing import Any, cast

_PACKAGES = ("executorch.exir", "executorch.backends.xnnpack")
_MODULES = (
    "executorch.exir.schema",
    "executorch.exir._serialize._program",
    "executorch.backends.xnnpack.serialization.xnnpack_graph_serialize",
)
_lock = RLock()


def load_program_modules() -> None:
    """Load the modules that read and write a .pte, unless they are loaded.

    Raises:
        ImportError: executorch, or a part of it, is missing.
    """
    if not all(name in sys.modules for name in _MODULES):
        import_without_packages(_MODULES, _PACKAGES)


def import_without_packages(modules: Sequence[str], packages: Sequence[str]) -> None:
    """Import modules without running the packages around them, which are deferred.

    A package that is loaded stays as it is.

    Raises:
        ImportError: no such package or module.
    """
    with _lock:
        finder = _Finder(modules, [name for name in packages if name not in sys.modules])
        try:
            for name in modules:
                import_module(name)
        finally:
            finder.start()


class _Finder(MetaPathFinder):
    """Runs a deferred package before any further module of it loads."""

    def __init__(self, modules: Sequence[str], packages: Sequence[str]) -> None:
        self.deferred = {name: _deferred(name, self) for name in packages}
        around = {name.rpartition(".")[0] for name in modules} - {*packages}
        # What lies beside the modules, they load when they work: without the package too.
        self.beside = tuple(f"{name}." for name in around)

    def start(self) -> None:
        """Let what is imported from now on run its package first."""
        if self.deferred:
            sys.meta_path.insert(0, self)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Find a module of a deferred package, after the package; leave all others."""
        packages = [name for name in [*self.deferred] if fullname.startswith(f"{name}.")]
        if not packages or fullname.startswith(self.beside):
            return None
        for name in packages:
            self.run(name)
        loaded = sys.modules.get(fullname)
        # This finder may be gone from the list by now: the rest of it is asked anew.
        return spec_from_loader(fullname, _Loaded(loaded)) if loaded else find_spec(fullname)

    def run(self, name: str) -> None:
        """Run a package's own code once.

        Without a lock: another thread may hold the lock of a module that this code imports.
        """
        package = self.deferred.pop(name, None)
        if package is None:
            return
        if not self.deferred and self in sys.meta_path:
            sys.meta_path.remove(self)
        assert package.__spec__ is not None and package.__spec__.loader is not None
        # Its code finds a usual package.
        cast(Any, package).__class__ = ModuleType
        try:
            package.__spec__.loader.exec_module(package)
        except BaseException:
            # As any import that fails: the next one tries again.
            sys.modules.pop(name, None)
            raise


class _DeferredPackage(ModuleType):
    """A package whose own code did not run yet."""

    def __getattr__(self, name: str) -> Any:
        """Run it for a name that is not there yet."""
        # Tools that look through all modules ask for such names.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__["__deferred_by__"].run(self.__name__)
        return getattr(self, name)


class _Loaded(Loader):
    """Loads a module that is loaded."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def _deferred(name: str, finder: _Finder) -> _DeferredPackage:
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = module_from_spec(spec)
    package.__class__ = _DeferredPackage
    assert isinstance(package, _DeferredPackage)
    package.__dict__["__deferred_by__"] = finder
    sys.modules[name] = package
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, package)
    return package
