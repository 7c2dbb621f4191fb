"""Does a second execution agree with the first? Same seed, same numbers.

python -m press.again copy [SHARE]    copies pages to .again/, for nbmake: a fifth of them, or of SHARE one
python -m press.again                 compares .again/, executed there, with what the execution cache holds

`make test` executes a fifth of the pages once more, uncached, through nbmake: another fifth for another commit, the
same for the same. `make test-notebooks SHARE=1` executes all, once a week in CI. What was not measured by a clock must
have the same digits (press.records.by_clock says what was), every claim must hold again, every decision choose the
same. The exit code is 1 if something differs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from press import ROOT, name_of, pages
from press.cache import executed, open_cache
from press.notebooks import read
from press.records import disagreements

AGAIN = ".again"  # nbmake collects nothing below _build
SHARE = 5  # one page in so many


def turn_of(root: Path = ROOT) -> int:
    """A number that is the commit's; 0 where there is none, as in an unpacked archive."""
    asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return 0
    return int(found.stdout, 16) if found.returncode == 0 else 0


def again_of(page: Path, root: Path = ROOT) -> Path:
    """Where the second execution of a page stands."""
    return root / AGAIN / page.relative_to(root / "chapters")


def copy(share: int = SHARE, root: Path = ROOT) -> list[Path]:
    """Copy one page in `share`, chosen by the commit, to where nbmake will execute it. Returns the copies."""
    shutil.rmtree(root / AGAIN, ignore_errors=True)
    chosen = pages(root)[turn_of(root) % share :: share]
    copies = [again_of(page, root) for page in chosen]
    for page, target in zip(chosen, copies, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, target)
    return copies


def differences(root: Path = ROOT) -> Iterator[str]:
    """What differs, page by page, of the pages that were copied."""
    cache = open_cache(root)
    copied = [page for page in pages(root) if again_of(page, root).exists()]
    if not copied:
        yield "expected pages executed a second time, found none; run `make test-notebooks`"
    for page in copied:
        first = executed(page, cache, root)
        if first is None:
            yield f"{name_of(page)}: expected two executions of it, found one; run `make test-notebooks`"
        else:
            yield from (f"{name_of(page)}: {difference}" for difference in disagreements(first, read(again_of(page, root))))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.again", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("copy").add_argument("share", nargs="?", type=int, default=min(SHARE, len(pages())))
    arguments = parser.parse_args()
    if arguments.command == "copy":
        if not 1 <= arguments.share <= len(pages()):
            parser.error(f"SHARE: expected one page in 1 to {len(pages())}, found {arguments.share}")
        print(f"{len(copy(arguments.share))} of {len(pages())} pages are executed once more; all are with SHARE=1")
        return 0
    found = list(differences())
    print("\n".join(f"DIFFERS {difference}" for difference in found) or "both executions agree")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
