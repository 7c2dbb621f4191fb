"""What a page says of itself to other programs: title, description, social card, canonical address; and the site to all: a map, a
404 page, its version and date.

The address under which the site is published is SITE_URL. Unknown, whatever would need it is left out: never a wrong address.
"""

from __future__ import annotations

import datetime
import html
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from press import ROOT

CARD = "card.png"  # in _static, drawn by press.card
DESCRIPTION = range(40, 161)  # characters; what is longer is cut by those who show it
LOST = """<h1>No such page</h1>
<p>The address may be from an earlier edition of the book, or mistyped. Begin at <a href="index.html">the landing page</a>, or
<a href="search.html">search</a>.</p>"""


def site_url(environment: Mapping[str, str]) -> str:
    """Where the site will be, with a slash at the end; empty if that is not known."""
    url = environment.get("SITE_URL", "").strip()
    return url.rstrip("/") + "/" if url else ""


def sentences(text: str, most: int = DESCRIPTION[-1]) -> str:
    """The first sentences of a text that fit, or as many words of the first one."""
    text = " ".join(text.split())
    shown = ""
    for sentence in re.findall(r".+?(?:[.?!]+[\"”’']?(?=\s|$)|$)", text):
        if len(shown) + len(sentence) > most:
            break
        shown += sentence
    if len(shown.strip()) >= min(DESCRIPTION[0], len(text)):
        return shown.strip()
    return text[: most - 1].rsplit(" ", 1)[0] + "…"  # one short sentence and a long one


def description(document: nodes.document) -> str:
    """A page in a sentence or two: its core question, or else its first paragraph."""
    boxes = [box for box in document.findall(nodes.Admonition) if "core-question" in box.get("classes", [])]
    paragraphs = [paragraph.astext() for place in (*boxes, document) for paragraph in place.findall(nodes.paragraph)]
    return sentences(next((text for text in paragraphs if len(text) >= DESCRIPTION[0]), ""))


def tag(**attributes: str) -> str:
    return "<meta " + " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items()) + ">"


def add_tags(app: Sphinx, name: str, template: str, context: dict, document: nodes.document | None) -> None:
    """Title, description and card of a page, into its head."""
    home = name == app.config.root_doc
    book, title = app.config.html_title, html.unescape(re.sub(r"<[^>]+>", "", context.get("title", "")))
    if home:
        context["docstitle"] = ""  # the page's own title is the book's
    url = site_url(os.environ)
    about = context.get("about") or (description(document) if document is not None else "")
    tags = [tag(property="og:title", content=book if home else title), tag(property="og:site_name", content=book)]
    tags += [tag(property="og:type", content="website" if home else "article")]
    if about:
        tags += [tag(name="description", content=about), tag(property="og:description", content=about)]
    if url and document is not None:
        tags += [
            tag(property="og:url", content=url + app.builder.get_target_uri(name)),
            tag(property="og:image", content=f"{url}_static/{CARD}"),
        ]
        tags += [tag(property="og:image:width", content="1200"), tag(property="og:image:height", content="630")]
        tags += [tag(property="og:image:alt", content=book), tag(name="twitter:card", content="summary_large_image")]
    if context.get("noindex"):
        context["pageurl"] = None
        tags.append(tag(name="robots", content="noindex"))
    if name == "404" and url:  # shown under any address, so nothing on it can be relative to where it is
        tags.insert(0, f'<base href="{html.escape(url)}">')
    # Docutils, Sphinx and the theme each say how wide the page is.
    own = re.sub(r'<meta [^>]*name="viewport"[^>]*>', "", context.get("metatags") or "")
    context["metatags"] = own + "\n" + "\n".join(tags)


def lost_page(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    yield "404", {"title": "No such page", "body": LOST, "noindex": True}, "page.html"


def know_the_address(app: Sphinx, config) -> None:
    if url := site_url(os.environ):
        config.html_baseurl = url


def git(root: Path, *command: str) -> str:
    """What git says; nothing where there is no git, or no repository."""
    if not shutil.which("git"):
        return ""
    return subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True).stdout.strip()


def version(root: Path) -> tuple[str, datetime.date]:
    """(what the site was built from, its date): the tag or commit; without one empty and today."""
    name, date = git(root, "describe", "--tags", "--always"), git(root, "log", "-1", "--format=%cs")
    return (name, datetime.date.fromisoformat(date)) if name and date else ("", datetime.date.today())


def colophon(root: Path) -> str:
    """The line at the foot of each page."""
    name, date = version(root)
    return f'{f"Version {html.escape(name)}, " if name else ""}<time datetime="{date}">{date.day} {date:%B %Y}</time>'


def sitemap(url: str, pages: list[str], date: datetime.date) -> str:
    entries = "".join(f"<url><loc>{html.escape(url + page)}</loc><lastmod>{date}</lastmod></url>\n" for page in pages)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n'


def write_map(app: Sphinx, error: Exception | None) -> None:
    """sitemap.xml and robots.txt, where the address is known."""
    if error is None and app.builder.format == "html":
        url, out = site_url(os.environ), Path(app.outdir)
        for file in ("sitemap.xml", "robots.txt"):
            (out / file).unlink(missing_ok=True)
        if url:
            listed = [app.builder.get_target_uri(name) for name in sorted(app.env.all_docs)]
            (out / "sitemap.xml").write_text(sitemap(url, listed, version(ROOT)[1]))
            (out / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {url}sitemap.xml\n")


def setup(app: Sphinx) -> None:
    app.connect("config-inited", know_the_address)
    app.connect("html-page-context", add_tags, priority=900)
    app.connect("html-collect-pages", lost_page)
    app.connect("build-finished", write_map)
