"""The only code that touches bytes: h5py, fsspec, reading and writing byte ranges."""
