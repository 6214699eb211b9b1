"""Files made with raw h5py to judge h5dask by, and a comparison of two files.

Nothing in this folder imports h5dask.
"""

from types import ModuleType

from tests.files import activations, ann, episodes, proteins

LAYOUTS: dict[str, ModuleType] = {
    "activations": activations,
    "proteins": proteins,
    "ann": ann,
    "episodes": episodes,
}
"""By layout name the module whose dict `VARIANTS` holds what opens and is written back the same."""
