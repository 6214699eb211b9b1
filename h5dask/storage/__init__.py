"""The only code that touches bytes: h5py, fsspec, reading and writing byte ranges."""

import os
import sys

if not hasattr(os, "preadv"):
    raise ImportError(
        f"h5dask needs positioned reads (os.preadv), which Python lacks on {sys.platform}; "
        "it runs on Linux and macOS"
    )
