"""A plugin of pytest: a failing example is as good as the smallest one, which takes minutes."""

from hypothesis import Phase, settings


def pytest_configure() -> None:
    phases = (Phase.explicit, Phase.generate)  # the same examples each time
    settings.register_profile("unshrunk", phases=phases, derandomize=True, deadline=None)
    settings.load_profile("unshrunk")
