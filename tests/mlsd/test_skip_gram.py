"""Ten lines of skip-gram on a page, and a library's beside them: on sessions with known groups both find the groups.

The code under test is the page's own: its cells are read from the notebook, so what readers see is what is compared.
"""

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from mlsd import files

CELLS = ("def opened(pages", "def together(pages", "def negatives(", "def steps(", "def skip_gram(")
N, GROUPS = 60, 6


def page_names() -> dict:
    """The functions of the page, in a room of their own: homes are in three markets, each holding two groups."""
    from scipy.sparse import csr_matrix

    notebook = nbformat.read(files.DATA.parent / "chapters" / "similar_listings.ipynb", 4)
    names = dict(np=np, pd=pd, expit=expit, csr_matrix=csr_matrix, n=N, market=np.arange(N) % 3)
    for start in CELLS:
        (cell,) = [c for c in notebook.cells if c.cell_type == "code" and start in c.source]
        exec(cell.source, names)
    return names


def group_of(home: np.ndarray) -> np.ndarray:
    return home % GROUPS


@pytest.fixture(scope="module")
def pages() -> pd.DataFrame:
    """Sessions of five pages, mostly of one group; never outside the group's market, as group % 3 is the market."""
    rng, rows = np.random.default_rng(0), []
    for session in range(3000):
        group = rng.integers(GROUPS)
        others = np.arange(N)[np.arange(N) % 3 == group % 3]
        own = others[group_of(others) == group]
        seen = np.where(rng.random(5) < 0.8, rng.choice(own, 5), rng.choice(others, 5))
        rows += [(session, home) for home in dict.fromkeys(seen.tolist())]
    return pd.DataFrame(rows, columns=["request_id", "item_id"]).assign(booked=False)


def purity(vectors: np.ndarray) -> float:
    """Share of the five nearest of its market that are of the same group; half is chance."""
    unit, market = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(N) % 3
    near = np.where(market == market[:, None], unit @ unit.T, -2)
    np.fill_diagonal(near, -2)
    nearest = np.argsort(-near, axis=1)[:, :5]
    return float((group_of(nearest) == group_of(np.arange(N))[:, None]).mean())


@pytest.mark.parametrize("where", ["everywhere", "market"])
def test_ours_finds_the_groups_of_known_sessions(pages, where):
    names = page_names()
    assert purity(names["skip_gram"](pages, where=where, epochs=5, dim=16)) > 0.9
    assert purity(np.random.default_rng(0).normal(size=(N, 16))) < 0.65


def test_negatives_of_the_market_stay_in_it():
    names = page_names()
    drawn = names["negatives"](1, np.ones(N), np.random.default_rng(0), "market")
    assert (names["market"][drawn] == 1).all()
    assert len(set(names["market"][names["negatives"](1, np.ones(N), np.random.default_rng(0))])) == 3


def test_a_library_finds_the_same_groups(pages):
    word2vec = pytest.importorskip(
        "gensim.models.word2vec", reason="gensim has no wheel for this Python; ours is compared where it has one"
    )
    sentences = pages.groupby("request_id").item_id.apply(lambda items: list(map(str, items))).tolist()
    model = word2vec.Word2Vec(sentences, vector_size=16, window=10, sg=1, negative=5, epochs=20, min_count=1, seed=0, workers=1)
    theirs = np.array([model.wv[str(home)] for home in range(N)])
    ours = page_names()["skip_gram"](pages, epochs=5, dim=16)
    assert purity(theirs) > 0.9 and abs(purity(ours) - purity(theirs)) < 0.1
