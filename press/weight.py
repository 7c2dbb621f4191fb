"""What makes a page light: the icons that the site shows and no others, no script that a page does not use, none that holds up its text.

The theme brings every icon of Font Awesome twice, as 1.5 MB of JavaScript and as fonts, and loads the search on each page. A first visit
to the book weighs under a megabyte (`first_visit` in tests/site/pages.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

THEME_STYLE = Path("styles", "pydata-sphinx-theme.css")
FONTS = Path("vendor", "fontawesome", "webfonts")
# One rule gives an icon its character: .fa-bars:before,.fa-navicon:before{content:"\f0c9"}
ICON = re.compile(r'(?:\.fa-[\w-]+:{1,2}before,?)+\{content:"\\([0-9a-f]+)"\}')
CHARACTER = re.compile(r'"\\(f[0-9a-f]{3}|e[0-9a-f]{3}|2b)"')
FACE = re.compile(
    r'src:url\((\.\./vendor/fontawesome/webfonts/)(fa-[\w-]+)\.woff2[^)]*\) format\("woff2"\),url\([^)]*\) format\("truetype"\)'
)
_SCRIPTS = r"scripts/fontawesome|searchtools|language_data|searchindex|sphinx_highlight"
UNUSED = re.compile(rf'[ \t]*<script[^>]*src="[^"]*(?:{_SCRIPTS})\.js[^"]*"></script>\n?')
# Scripts wait until the text is there; in order, as before. One is read by a line that stands in the page itself.
WAITING = re.compile(r'<script (?![^>]*\b(?:defer|async)\b)(?![^>]*documentation_options)([^>]*src="[^"]*_static/[^"]*")')


def without_unused_math(page: str) -> str:
    """A page that shows no formula does not load MathJax. Sphinx gives it to the landing page for the formulas of all others."""
    return page if 'class="math' in page else re.sub(r'[ \t]*<script[^>]*src="[^"]*/mathjax/[^"]*"></script>\n?', "", page)


def icons_of(styles: str, used: str) -> set[int]:
    """The characters that the site needs: of the icons that its pages and scripts name, and those that a style puts in itself."""
    names = set(re.findall(r"\bfa-[\w-]+", used))
    needed = {int(match[1], 16) for match in ICON.finditer(styles) if names & set(re.findall(r"fa-[\w-]+", match[0]))}
    return needed | {int(code, 16) for code in CHARACTER.findall(ICON.sub("", styles))}


def with_icons(styles: str, used: str) -> str:
    """The style without the rules of icons that nothing names, and with the small fonts."""
    names = set(re.findall(r"\bfa-[\w-]+", used))
    styles = ICON.sub(lambda match: match[0] if names & set(re.findall(r"fa-[\w-]+", match[0])) else "", styles)
    return FACE.sub(r'src:url(\1\2.woff) format("woff")', styles)


def small_font(source: Path, characters: set[int], target: Path) -> None:
    """A font with these characters alone, as WOFF."""
    font = TTFont(source)
    options = subset.Options(flavor="woff", drop_tables=["DSIG"], hinting=False, notdef_outline=False, glyph_names=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    subset.save_font(font, target, options)


def lighten(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = [path for path in out.rglob("*.html") if "_static" not in path.parts]
    scripts = [path for path in static.rglob("*.js") if path.parent.name not in ("mathjax", "mermaid") and path.name != "fontawesome.js"]
    used = "\n".join(path.read_text() for path in [*pages, *scripts])
    theme = static / THEME_STYLE
    styles = theme.read_text()
    others = "\n".join(path.read_text() for path in static.rglob("*.css") if path != theme)
    if FACE.search(styles):  # else this build has done it before, and the theme's own file was not copied anew
        characters = icons_of(styles + others, used)
        for source in sorted((static / FONTS).glob("*.ttf")):
            small_font(source, characters, source.with_suffix(".woff"))
        theme.write_text(with_icons(styles, used))
