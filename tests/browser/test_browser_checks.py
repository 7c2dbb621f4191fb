"""The checks themselves: a page without a fault passes, and each fault put into it is noticed."""

import pytest
from views import PHONE, accessibility, drawings, opened, overflow, served, silence, third_parties

GOOD = """<!DOCTYPE html><html lang="en"><head><title>Good</title><link rel="icon" href="data:,"></head>
<body><main><article><h1>Good</h1><p>Text.</p>
<div style="overflow-x: auto" tabindex="0"><p style="width: 900px">Wide, in a box of its own.</p></div>
<!-- here --></article></main></body></html>"""
FAULTS = {
    "an error on the console": (silence, '<script>console.error("broken")</script>'),
    "a warning on the console": (silence, '<script>console.warn("odd")</script>'),
    "an exception": (silence, "<script>undefined_name()</script>"),
    "a missing script": (silence, '<script src="gone.js"></script>'),
    "another host": (third_parties, '<script src="https://cdn.example.org/x.js"></script>'),
    "a wide table": (overflow, '<div style="width: 900px">wide</div>'),
    "cut off at the edge": (overflow, '<div style="overflow: hidden"><div style="width: 900px">wide</div></div>'),
    "low contrast": (accessibility, '<p style="color: #ccc">pale</p>'),
    "a picture without text": (accessibility, '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">'),
    "a formula left as text": (drawings, '<span class="math">\\(x\\)</span>'),
    "a diagram left as text": (drawings, '<pre class="mermaid">flowchart</pre>'),
    "a picture that is gone": (drawings, '<img alt="gone" src="gone.png">'),
}


@pytest.fixture
def write(tmp_path):
    with served(tmp_path) as url:

        def page(extra=""):
            (tmp_path / "page.html").write_text(GOOD.replace("<!-- here -->", extra))
            return f"{url}/page.html"

        yield page


def test_a_good_page_has_no_fault(browser, write):
    with opened(browser, write(), size=PHONE) as view:
        checks = [silence, third_parties, drawings, overflow, accessibility]
        assert [fault for check in checks for fault in check(view)] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(browser, write, fault):
    check, extra = FAULTS[fault]
    with opened(browser, write(extra), size=PHONE) as view:
        assert list(check(view))
