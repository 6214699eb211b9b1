"""What would run, told before it does: inputs, blocks, tasks, bytes, memory, time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import xarray as xr

from h5dask.contents import Contents
from h5dask.ops.cost import Cost, merged
from h5dask.plan.drawing import table
from h5dask.plan.figures import Figures, parse_figures, this_machine
from h5dask.plan.inputs import input_files, sources_of, stored_forms
from h5dask.plan.projection import Blocks, Plan, Stage, estimate
from h5dask.plan.rates import Rates, calibrate, sampled
from h5dask.plan.remembered import Known, known_rates
from h5dask.storage.remote import Source, UrlPath, expand

__all__ = [
    "Figures",
    "Known",
    "Plan",
    "Rates",
    "Stage",
    "calibrate",
    "estimate",
    "known_rates",
    "parse_figures",
    "plan_of",
    "stored_forms",
    "table",
    "this_machine",
]


def plan_of(
    ds: xr.Dataset,
    costs: Iterable[Cost],
    *,
    sources: UrlPath | Iterable[UrlPath] | None = None,
    figures: Figures | None = None,
    rates: Rates | None = None,
) -> Plan:
    """Return what computing on a Dataset would take. Nothing of it runs.

    No value is read, but for 8 MiB at most of inputs in a store, whose rate no machine knows.

    Parameters
    ----------
    ds : Dataset
        What would be computed on.
    costs : iterable of Cost
        What the stages take; those of one name are one stage.
    sources : str, path, or list of them, optional
        The inputs; the files that the Dataset was opened from without it.
    figures : Figures, optional
        What there is to compute with; this machine's threads without it.
    rates : Rates, optional
        This machine's without it, measured in about two seconds once a month, unless the figures
        give all of them; what they give counts in any case.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.ops.cost import reading
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("ann"))
    >>> plan = plan_of(ds, [reading(ds, stored=stored_forms(ds))])
    >>> plan.layout, [stage.cost.stage for stage in plan.stages], plan.seconds > 0
    ('ann', ['read'], True)
    """
    figures = figures or this_machine()
    form = ds.encoding.get("h5dask")
    inputs = sources_of(ds) if sources is None else expand(sources)
    known = Known(rates=rates) if rates is not None else _known(figures, inputs)
    counted = replace(known.rates, **figures.rates)
    return Plan(
        inputs=input_files(inputs),
        layout=form.layout if isinstance(form, Contents) else "",
        blocks=tuple(
            Blocks(
                name=str(name),
                dtype="text" if variable.dtype.kind == "O" else str(variable.dtype),
                dims=tuple(map(str, variable.dims)),
                shape=variable.shape,
                n_blocks=tuple(map(len, variable.chunks)),
                block=tuple(map(max, variable.chunks)),
                nbytes=variable.nbytes,
            )
            for name, variable in ds.variables.items()
            if variable.chunks is not None
        ),
        stages=tuple(estimate(cost, counted, figures) for cost in merged(costs)),
        figures=figures,
        rates=counted,
        measured=known.at,
        sampled=known.sampled,
    )


def _known(figures: Figures, inputs: Iterable[Source]) -> Known:
    """Return what is known of rates beside those that were given."""
    given = figures.rates
    if len(given) == len(fields(Rates)):
        return Known(rates=Rates(**given))
    found = known_rates(anew=figures.anew)
    far = next((one for one in inputs if one.content is None and not one.is_local), None)
    if far is None or "read" in given:
        return found
    rates = replace(found.rates, read=sampled(far, figures.cores))
    return replace(found, rates=rates, sampled=far.url)
