"""What prints the book: executes its pages, tries its claims, builds its site. Nothing in `mlsd` knows of it."""

import contextlib
import sys
from pathlib import Path

if "nbformat" not in sys.modules and "rfc3987_syntax" not in sys.modules:
    # nbformat checks notebooks with jsonschema, which imports, if it is there, a grammar of internationalised addresses: over a second
    # for each process, and nothing in a notebook is one. Without it jsonschema does without.
    sys.modules["rfc3987_syntax"] = None
    with contextlib.suppress(ImportError):  # the preflight says what is missing
        import nbformat  # noqa: F401
    del sys.modules["rfc3987_syntax"]

ROOT = Path(__file__).resolve().parent.parent


def pages(root: Path = ROOT) -> list[Path]:
    """Every notebook of the book: the chapters, then their labs."""
    return sorted(root.glob("chapters/*.ipynb")) + sorted(root.glob("chapters/labs/*.ipynb"))


def name_of(page: Path) -> str:
    """What a page is called on the command line and in the reports: `feed`, `labs/feed_delay`."""
    return f"labs/{page.stem}" if page.parent.name == "labs" else page.stem


def page_named(name: str, root: Path = ROOT) -> Path:
    """The page of that name. Ends the program with the names that there are, if there is none."""
    known = {name_of(page): page for page in pages(root)}
    if name not in known:
        raise SystemExit(f"no page named {name!r}; there are {', '.join(known)}")
    return known[name]
