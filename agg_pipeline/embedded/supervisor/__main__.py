"""Entry point of the supervisor process: ``python -I -S .../embedded/supervisor ROOT OWNER_PID [--remove]``.

-I and -S keep out the user's settings and site-packages. Python puts this folder first on the import path; the folder
above takes its place, which makes this folder the package ``supervisor``, with relative imports.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    importlib.import_module("supervisor.main").main()
