"""Does a second execution agree with the first? Same seed, same numbers.

python -m press.again        compares .again/, executed just now, with what the execution cache holds

`make test` executes every page once more, uncached, through nbmake. What was not measured by a clock must have the
same digits (press.records.by_clock says what was), every claim must hold again, every decision choose the same.
The exit code is 1 if something differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from press import ROOT, name_of, pages
from press.cache import executed, open_cache
from press.notebooks import read
from press.records import disagreements

AGAIN = ".again"  # nbmake collects nothing below _build


def differences(root: Path = ROOT) -> Iterator[str]:
    """What differs, page by page."""
    cache = open_cache(root)
    for page in pages(root):
        first = executed(page, cache, root)
        second = root / AGAIN / page.relative_to(root / "chapters")
        if first is None or not second.exists():
            yield f"{name_of(page)}: expected two executions of it, found {'none' if first is None else 'one'}; run `make test-notebooks`"
        else:
            yield from (f"{name_of(page)}: {difference}" for difference in disagreements(first, read(second)))


def main() -> int:
    found = list(differences())
    print("\n".join(f"DIFFERS {difference}" for difference in found) or f"both executions of {len(pages())} pages agree")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
