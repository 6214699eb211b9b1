"""Files that break a rule: opening may refuse them, a validator names what is wrong."""

from tests.files.broken import activations, ann, episodes, proteins
from tests.files.variant import Variant

BROKEN: dict[str, dict[str, Variant]] = {
    "activations": activations.BROKEN,
    "proteins": proteins.BROKEN,
    "ann": ann.BROKEN,
    "episodes": episodes.BROKEN,
}
"""By layout name, then by name."""

REFUSED: dict[str, dict[str, Variant]] = {"ann": ann.REFUSED}
"""By layout name: recognised, and refused in one line that holds the word in `problems`."""
