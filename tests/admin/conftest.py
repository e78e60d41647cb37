from __future__ import annotations

import importlib
import warnings

# On Python before 3.13 conch looks for shadow passwords, with a module that warns that it will go.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("twisted.conch.checkers")
