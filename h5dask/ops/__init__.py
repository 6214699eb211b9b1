"""xarray in, xarray out: operations by name, imported from their modules."""
