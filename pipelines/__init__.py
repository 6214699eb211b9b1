"""ETL jobs of several steps, on h5dask's public names; run from a checkout, not in the wheel."""
