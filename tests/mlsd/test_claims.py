"""A claim that does not clear its bound raises; one that cannot fail is refused; records can be read back."""

import subprocess
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from mlsd import claims
from mlsd.estimates import Estimate


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    InteractiveShell.instance()  # without a shell, display() prints instead of publishing
    monkeypatch.setattr(claims, "_said", {})


def said(captured):
    return [output.data[claims.MIME] for output in captured.outputs if claims.MIME in output.data]


SHARE = Estimate(0.2, 0.15, 0.25)


def claim(estimate=SHARE, **changes):
    claims.claim("Two is more than one", estimate, **dict(key="two", unit="%", rests_on="arithmetic", at_least=0.1) | changes)


def test_a_claim_that_clears_its_bound_is_shown_with_number_unit_interval_and_bound():
    with capture_output() as captured:
        claim()
    (record,) = said(captured)
    assert record["held"] and record["rests_on"] == ["arithmetic"] and record["key"] == "two"
    page = captured.outputs[0].data["text/html"]
    assert "20% [15, 25], claimed at least 10%" in page and "switch off <code>arithmetic</code>" in page


@pytest.mark.parametrize("bounds", [dict(at_least=0.16), dict(at_least=None, at_most=0.24), dict(at_most=0.2)])
def test_the_interval_and_not_the_point_must_clear_the_bound(bounds):
    with capture_output() as captured, pytest.raises(claims.ClaimFailed, match="Two is more than one: measured 20%"):
        claim(**bounds)
    assert not said(captured)[0]["held"] and "✗" in captured.outputs[0].data["text/html"]


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(estimate=0.2), TypeError, "expected an Estimate with an interval, found float"),
        (dict(at_least=None), ValueError, "a claim without a bound cannot fail"),
        (dict(rests_on=()), ValueError, "a claim that nothing breaks proves nothing"),
        (dict(unit=""), ValueError, "expected the unit"),
        (dict(key="No key"), ValueError, "expected small letters"),
    ],
)
def test_what_cannot_fail_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        claim(**changes)


def test_a_break_is_shown_and_escaped():
    with capture_output() as captured:
        claim(broken_by=("if a < b:", "if False:"), rests_on=())
    assert said(captured)[0]["broken_by"] == ["if a < b:", "if False:"]
    assert "put <code>if False:</code> in the place of <code>if a &lt; b:</code>" in captured.outputs[0].data["text/html"]


def test_recording_does_not_raise(monkeypatch):
    monkeypatch.setenv("MLSD_CLAIMS", "record")
    with capture_output() as captured:
        claim(Estimate.exact(0))
        claims.colophon()
    first, colophon = said(captured)
    assert not first["held"] and (colophon["claims"], colophon["held"], colophon["decisions"]) == (1, 0, 0)
    assert colophon["peak_memory_mb"] > 0


def test_a_chapter_that_is_run_twice_says_the_same():
    with capture_output() as captured:
        for _ in range(2):
            claim()
            claim(key="three")
            claims.colophon()
    colophons = [record for record in said(captured) if record["kind"] == "colophon"]
    assert [(c["claims"], c["held"]) for c in colophons] == [(2, 2), (2, 2)]


def test_peak_memory_is_known_without_the_resource_module():
    """As on Windows; there `peak_wset` exists, here its absence shows that the other way is taken."""
    program = "import sys; from mlsd import claims; sys.modules['resource'] = None; claims._peak_memory_mb()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "peak_wset" in done.stderr
