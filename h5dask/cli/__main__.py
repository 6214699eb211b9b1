"""`python -m h5dask.cli`: the command line where no script is installed."""

from h5dask.cli import main

main()
