"""Every real file by every verb, and each result made again in plain h5py and numpy.

Here a doubter looks: `VERBS` says what each verb is asked of a file, who checks its answer, and
with which words it refuses the layouts that it isn't for. Nothing of h5dask is imported.
"""

import html
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from tests.commands import call

Array = npt.NDArray[Any]

HERE = Path(__file__).parent
REAL, DEMO = HERE / "real", HERE.parent / "h5dask" / "demo_files"
SMALL = sorted(str(path.relative_to(REAL)) for path in REAL.rglob("*.h*5"))
LARGE = sorted(set(json.loads((HERE / "known_values.json").read_text())) - set(SMALL))
"""Those of H5DASK_SAMPLES that aren't the same as a small one."""
LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
VECTORS = {
    "activations": "activations",
    "proteins": "logits",
    "ann": "train",
    "episodes": "embeddings",
}
"""The variable of each layout that is normalized."""
N_QUERIES, K = 4, 3
"""Of the benchmark that is made of a file's vectors."""


def stored(path: Path) -> dict[str, Array]:
    """Read every dataset with h5py; text as str."""
    found = {}

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            text = h5py.check_string_dtype(one.dtype) is not None
            found[name] = one.asstr()[...] if text else one[...]

    with h5py.File(path) as f:
        f.visititems(visit)
    return found


def variable_of(path: str) -> str:
    """Name what a dataset is a part of."""
    above, _, name = path.rpartition("/")
    if name.startswith("activations_layer_"):
        return "activations"
    return f"metadata_{name}" if above == "metadata" else name


def numbers(path: Path) -> dict[str, Array]:
    """Return all numbers of each variable in float64, in any order."""
    parts: dict[str, list[Array]] = {}
    for name, values in stored(path).items():
        if values.dtype.kind in "biuf":
            parts.setdefault(variable_of(name), []).append(values.astype(np.float64).ravel())
    return {name: np.concatenate(some) for name, some in parts.items()}


def softmax(logits: Array) -> Array:
    wide = logits.astype(np.float64)
    powers: Array = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def values_of(told: Any, name: str) -> Array:
    """Return a variable of a Dataset that was printed as JSON."""
    return np.array({**told["coords"], **told["variables"]}[name]["values"])


def close(found: Any, expected: Any, rtol: float = 1e-12, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def of_branch(path: Path, place: str) -> dict[str, Array]:
    """Return what a scenario's branch holds, named as SCENARIO or SCENARIO/BRANCH, by its name."""
    scenario, _, branch = place.partition("/")
    folders = {
        "data" + (f"/{form}{branch}" if branch else "") for form in ("prefilled/", "prefilled_")
    }
    held = stored(path).items()
    wanted = {f"scenarios/{scenario}/{folder}" for folder in folders}
    return {name.rpartition("/")[2]: v for name, v in held if name.rpartition("/")[0] in wanted}


def info(file: Path, told: Any, made: Path) -> None:
    assert told["layouts"] == [file.parent.name]
    assert told["nbytes"] == file.stat().st_size
    assert set(told["datasets"]) == set(stored(file))
    with h5py.File(file) as f:
        for name, one in told["datasets"].items():
            assert tuple(one["shape"]) == f[name].shape
            assert one["chunks"] == (None if f[name].chunks is None else list(f[name].chunks))
            if f[name].dtype.kind in "biuf":
                assert one["dtype"] == f[name].dtype.str
                assert one["nbytes"] == f[name].nbytes
        for name, attrs in told["groups"].items():
            assert attrs == {key: plain(value) for key, value in f[name or "/"].attrs.items()}


def plain(value: Any) -> Any:
    """Return an attribute as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def validate(file: Path, told: Any, made: Path) -> None:
    [one] = told["files"]
    assert (one["problems"], one["error"]) == ([], None)
    held = stored(file)
    assert all(np.isfinite(values).all() for values in numbers(file).values())
    if file.parent.name == "proteins":
        assert all(0 <= v.min() <= v.max() <= 20 for n, v in held.items() if "sequences" in n)
    if file.parent.name == "episodes":
        assert len(set(held["episode_ids"].tolist())) == len(held["embeddings"])
    if file.parent.name == "ann":
        assert 0 <= held["neighbors"].min() <= held["neighbors"].max() < len(held["train"])
        assert (np.diff(held["distances"].astype(np.float64), axis=1) >= 0).all()


def summarize(file: Path, told: Any, made: Path) -> None:
    expected = numbers(file)
    assert {name.removesuffix("_mean") for name in told["variables"] if "_mean" in name} == set(
        expected
    )
    for name, values in expected.items():
        said = {what: values_of(told, f"{name}_{what}") for what in ("count", "min", "max")}
        assert said == {"count": values.size, "min": values.min(), "max": values.max()}
        mean = math.fsum(values) / values.size
        close(values_of(told, f"{name}_mean"), mean, atol=1e-15 * np.abs(values).max())
        off = math.sqrt(math.fsum((values - mean) ** 2) / values.size)
        close(values_of(told, f"{name}_std"), off, atol=1e-15 * np.abs(values).max())
        close(values_of(told, f"{name}_rms"), math.sqrt(math.fsum(values**2) / values.size))


def scan(file: Path, told: Any, made: Path) -> None:
    for name, values in numbers(file).items():
        if name not in told["variables"]:
            continue
        said = told["variables"][name]
        assert said["values"] == values.size
        assert (said["nan"], said["posinf"], said["neginf"]) == (
            np.isnan(values).sum(),
            np.isposinf(values).sum(),
            np.isneginf(values).sum(),
        )
    parts = [v for n, v in stored(file).items() if variable_of(n) == VECTORS[file.parent.name]]
    n_zero = sum(int((~part.any(axis=-1)).sum()) for part in parts)
    assert told["variables"][VECTORS[file.parent.name]]["zero_rows"] == n_zero
    assert [rows for rows in told["bad_rows"].values() if rows] == []


def normalize(file: Path, told: Any, made: Path) -> None:
    before, after = stored(file), stored(made)
    assert list(before) == list(after)
    for name, values in before.items():
        if variable_of(name) != VECTORS[file.parent.name]:
            assert values.dtype == after[name].dtype
            assert all(np.array_equal(a, b) for a, b in zip(values, after[name], strict=True))
            continue
        wide = values.astype(np.float64)
        length = np.sqrt((wide**2).sum(axis=-1, keepdims=True))
        kind = after[name].dtype
        assert kind == (values.dtype if values.dtype.kind == "f" else np.float32)
        close(after[name], wide / length, rtol=np.finfo(kind).eps, atol=np.finfo(kind).tiny)


def contrast(file: Path, told: Any, made: Path) -> None:
    pairs = zip(values_of(told, "first"), values_of(told, "second"), strict=True)
    vectors, norms = values_of(told, "vector"), values_of(told, "norm")
    for at, (first, second) in enumerate(pairs):
        one, other = of_branch(file, first), of_branch(file, second)
        for lane, layer in enumerate(values_of(told, "layer")):
            name = f"activations_layer_{layer}"
            means = [side[name].astype(np.float64).mean(axis=0) for side in (one, other)]
            close(vectors[at, lane], means[0] - means[1], atol=1e-13)
            close(norms[at, lane], np.linalg.norm(means[0] - means[1]))


def logits(file: Path, told: Any, made: Path) -> None:
    labels = (values_of(told, name) for name in ("scenario", "branch", "sample"))
    held: dict[str, Array] = {}
    for at, (scenario, branch, sample) in enumerate(zip(*labels, strict=True)):
        place = f"{scenario}/{branch}".rstrip("/")
        if place not in held:
            held[place] = of_branch(file, place)["logits"].astype(np.float64)
        row = held[place][sample]
        shares = softmax(row)
        top = np.argsort(-row, kind="stable")[:5]
        assert values_of(told, "top_token")[at].tolist() == top.tolist()
        close(values_of(told, "top_probability")[at], shares[top])
        close(values_of(told, "entropy")[at], -(shares * np.log(shares)).sum())
        close(values_of(told, "logsumexp")[at], np.log(np.exp(row).sum()))
    assert at + 1 == sum(len(v) for n, v in stored(file).items() if n.endswith("/logits"))


def concat(file: Path, told: Any, made: Path) -> None:
    before, after = stored(file), stored(made)
    if file.parent.name == "proteins":  # the second one's structures are numbered anew
        n = len({name.partition("/")[0] for name in before})
        assert len(after) == 2 * len(before)
        for name, values in before.items():
            group, _, last = name.partition("/")
            number = int(group.removeprefix("structure_"))
            for at in (number, number + n):
                assert np.array_equal(after[f"structure_{at}/{last}"], values)
        return
    assert set(before) == set(after)
    for name, values in before.items():
        found = after[name]
        once = len(found) == len(values) and "/text/" in name  # text of a scenario, told once
        twice = values if once else np.concatenate([values, values])
        assert len(found) == len(twice)
        assert all(np.array_equal(a, b) for a, b in zip(found, twice, strict=True))


def by_profile(file: Path) -> dict[tuple[int, int], tuple[Array, Array]]:
    """Return sequences (sample, position) and logits of each structure and noise level."""
    held = stored(file)
    numbered = {int(name.split("/")[0].removeprefix("structure_")) for name in held}
    found = {}
    for number in numbered:
        letters, scores = (held[f"structure_{number}/{name}"] for name in ("sequences", "logits"))
        for noise in range(letters.shape[1]):
            found[number, noise] = letters[:, noise], scores[:, noise]
    return found


def chosen(letters: Array, scores: Array) -> Array:
    """Return -log of the probability of each letter that is there: (sample, position)."""
    there = np.take_along_axis(softmax(scores), letters[..., np.newaxis].astype(int), -1)
    lost: Array = -np.log(there[..., 0])
    return lost


def bits(shares: Array) -> float:
    """Return the mean over positions of the entropy."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(-np.nan_to_num(shares * np.log2(shares)).sum(axis=-1).mean())


def profile(file: Path, told: Any, made: Path) -> None:
    expected = by_profile(file)
    said = {(one["structure"], one["noise"]): one for one in told["profiles"]}
    assert set(said) == set(expected)
    for key, (letters, scores) in expected.items():
        n, length = letters.shape
        counts = (letters[..., np.newaxis] == np.arange(21)).sum(axis=0)
        score = chosen(letters, scores).mean(axis=1)
        assert (said[key]["samples"], said[key]["length"], said[key]["n_bad"]) == (n, length, 0)
        close(said[key]["score"], score.mean())
        close(said[key]["perplexity"], np.exp(score).mean())
        close(said[key]["frequency_entropy"], bits(counts / n), atol=1e-15)
        # Its profile is stored in float32.
        close(said[key]["entropy"], bits(softmax(scores).mean(axis=0)), rtol=1e-6)
        if n > 1:
            alike = (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))
            close(said[key]["diversity"], (1 - alike).mean())


def fasta(file: Path, told: Any, made: Path) -> None:
    expected = by_profile(file)
    records = made.read_text().removeprefix(">").split("\n>")
    assert len(records) == sum(len(letters) for letters, _ in expected.values())
    for record in records:
        header, *lines = record.split("\n")
        said = re.fullmatch(r"structure_(\d+) sample=(\d+) noise=(\d+) score=([\d.]+)", header)
        assert said is not None, header
        number, sample, noise = (int(n) for n in said.groups()[:3])
        letters, scores = expected[number, noise]
        assert "".join(lines) == "".join(LETTERS[i] for i in letters[sample])
        close(float(said[4]), chosen(letters, scores)[sample].mean(), atol=5.1e-5, rtol=0)


def distances(base: Array, query: Array, metric: str) -> Array:
    """Return all distances in float64: (query, vector)."""
    base, query = base.astype(np.float64), query.astype(np.float64)
    if metric == "angular":
        units = [v / np.sqrt((v**2).sum(axis=1, keepdims=True)) for v in (base, query)]
        apart: Array = 1 - units[1] @ units[0].T
        return apart
    return np.array([np.sqrt(((base - one) ** 2).sum(axis=1)) for one in query])


def nearest(held: Mapping[str, Array], metric: str) -> None:
    """Compare neighbors with those of all distances; what is as near may stand in its place."""
    apart = distances(held["train"], held["test"], metric)
    if "train_labels" in held:
        apart[held["test_labels"][:, np.newaxis] != held["train_labels"]] = np.inf
    k = held["neighbors"].shape[1]
    own = np.take_along_axis(apart, held["neighbors"], 1)
    close(own, np.sort(apart, axis=1)[:, :k], atol=1e-12)
    close(held["distances"], own, rtol=1e-6, atol=1e-6)
    assert all(len(set(row)) == k for row in held["neighbors"].tolist())


def ground_truth(file: Path, told: Any, made: Path) -> None:
    held = stored(made)
    layers = {n: v for n, v in stored(file).items() if n.endswith("activations_layer_5")}
    whole = np.concatenate([*layers.values()]) if layers else stored(file)["embeddings"]
    again = np.concatenate([held["train"], held["test"]]).astype(whole.dtype)
    assert sorted(map(bytes, again)) == sorted(map(bytes, whole))
    assert held["neighbors"].shape == (N_QUERIES, K) == (told["queries"], told["k"])
    nearest(held, "euclidean")


def verify(file: Path, told: Any, made: Path) -> None:
    held = stored(file)
    with h5py.File(file) as f:
        metric = str(plain(f.attrs["distance"]))
    nearest(held, metric)
    assert (told["right"], told["queries"]) == (True, len(held["test"]))
    assert (told["neighbors"]["wrong"], told["neighbors"]["wrong_distances"]) == (0, 0)


def recall(file: Path, told: Any, made: Path) -> None:
    shares = [
        len(set(a) & set(b)) / len(b)
        for a, b in zip(damaged(file)["neighbors"], stored(file)["neighbors"], strict=True)
    ]
    assert 0 < min(shares) < 1
    close(values_of(told, "by_id_mean"), np.mean(shares))
    close(values_of(told, "by_id_min"), min(shares))


def damaged(file: Path) -> dict[str, Array]:
    """Return a benchmark in which every third neighbor is some other row."""
    held = stored(file)
    lost = [next(i for i in range(len(held["train"])) if i not in row) for row in
            held["neighbors"].tolist()]  # fmt: skip
    held["neighbors"][:, ::3] = np.array(lost)[:, np.newaxis]
    return held


def report(file: Path, told: Any, made: Path) -> None:
    page = made.read_text(encoding="utf-8")
    text = html.unescape(
        re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    )
    words = " ".join(text.split()).replace("\u2212", "-")
    assert told["sections"][:3] == ["Structure", "Sizes", "Value ranges"]
    assert all(title in words for title in told["sections"])
    ranges = words[words.rindex("Value ranges Every value was read once") :]
    for name, values in numbers(file).items():
        said = re.search(rf" {name} \w+ {values.size:,} 0 0 0" + r" (\S+)" * 4, ranges)
        assert said is not None, name
        found = [{"False": "0", "True": "1"}.get(word, word) for word in said.groups()]
        expected = values.min(), values.mean(), values.max(), values.std()
        close([float(n.replace(",", "")) for n in found], expected, rtol=1e-4, atol=1e-7)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What a verb is asked of a file, and who checks what it says and writes."""

    check: Callable[[Path, Any, Path], None]
    """Takes the file, what was printed as JSON, and the path of what was written."""
    options: str = ""
    """Of every layout."""
    of: Mapping[str, str] = field(default_factory=dict)
    """Of one layout: more options."""
    output: str = ""
    """Ending of what it writes."""
    other: str = ""
    """What stands before or behind the file: itself, or a damaged copy."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By layout: how files of it are refused."""


def but(layout: str, words: str) -> dict[str, str]:
    """Say so of all layouts but one."""
    return {one: words for one in VECTORS if one != layout}


VERBS = {
    "info": Verb(check=info),
    "validate": Verb(check=validate, options="--values"),
    "summarize": Verb(check=summarize),
    "scan": Verb(check=scan),
    "normalize": Verb(
        check=normalize,
        options="--how l2",
        of={layout: f"--variable {name}" for layout, name in VECTORS.items()},
        output=".h5",
    ),
    "contrast": Verb(
        check=contrast,
        refused=but("activations", "contrast: found 0 variables of numbers along record, layers"),
    ),
    "logits": Verb(
        check=logits,
        refused=but("activations", "logits: found 0 variables of floats along 'vocab'"),
    ),
    "concat": Verb(
        check=concat,
        output=".h5",
        other="itself",
        refused={"ann": "several ann files can't open as one: neighbors are the nearest of one"},
    ),
    "profile": Verb(
        check=profile, refused=but("proteins", "sequences: found sequences: none; expected whole")
    ),
    "fasta": Verb(
        check=fasta,
        output=".fasta",
        refused=but("proteins", "expected this variable, as an opened file of sampled sequences"),
    ),
    "ground-truth": Verb(
        check=ground_truth,
        options=f"--k {K} --test-size {N_QUERIES} --metric euclidean",
        of={"activations": "--select layer=5"},
        output=".hdf5",
        refused={
            "proteins": "found a file of proteins, which holds no vectors; expected one of",
            "ann": f"test_size: found {N_QUERIES} beside queries; give one of the two",
        },
    ),
    "verify": Verb(check=verify, refused=but("ann", "train: missing; expected it, of dims")),
    "recall": Verb(
        check=recall, other="damaged", refused=but("ann", "expected neighbors of each query")
    ),
    "report": Verb(check=report, output=".html"),
}


@pytest.fixture(params=[*SMALL, *(pytest.param(name, marks=pytest.mark.samples) for name in LARGE)])
def file(request: pytest.FixtureRequest) -> Path:
    """Every real file in turn."""
    name = request.param
    return Path(REAL if name in SMALL else request.getfixturevalue("samples"), name)


@pytest.mark.filterwarnings("ignore:.*dtype int8 beside float32 of /train")  # told on stderr
@pytest.mark.filterwarnings("ignore:scenario '.*'. found no counterpart")
@pytest.mark.filterwarnings("ignore:.* named 2 times")
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_and_writes_what_plain_code_does(name: str, file: Path, tmp_path: Path) -> None:
    verb, layout = VERBS[name], file.parent.name
    files, made = [file], tmp_path / f"made{verb.output}"
    if verb.other == "itself":
        files = [file, file]
    elif verb.other == "damaged":
        files = [with_damage(file, tmp_path), file]
    options = [*verb.options.split(), *verb.of.get(layout, "").split(), "--json"]
    if verb.output:
        options += ["-o", str(made)]
    answer = call(name, *files, *options)
    if layout in verb.refused:
        assert answer.exit_code == 2, answer.output
        assert verb.refused[layout] in answer.stderr
        assert (answer.stdout, made.exists()) == ("", False)
        return
    assert answer.exit_code == 0, answer.stderr
    verb.check(file, json.loads(answer.stdout), made)


def with_damage(file: Path, folder: Path) -> Path:
    """Write the benchmark with wrong neighbors; a copy of what isn't one."""
    path = folder / f"damaged{file.suffix}"
    path.write_bytes(file.read_bytes())
    if "neighbors" in stored(file):
        with h5py.File(path, "r+") as f:
            f["neighbors"][...] = damaged(file)["neighbors"]
    return path


def test_every_verb_has_its_place_here() -> None:
    commands = call("--help").stdout.partition("Commands:")[2]
    listed = set(re.findall(r"^  ([a-z-]+) ", commands, re.MULTILINE))
    assert listed - set(VERBS) == {"demo"}  # it runs the others, and checks what it writes
    assert set(VERBS) <= listed


def test_what_comes_with_the_package_is_among_these() -> None:
    known = {path.name: path for path in REAL.rglob("*.h*5")}
    found = list(DEMO.rglob("*.h*5"))
    assert len(found) > 4
    assert all(path.read_bytes() == known[path.name].read_bytes() for path in found)
