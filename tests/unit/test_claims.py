"""A claim that does not clear its bound raises; one that cannot fail is refused; records can be read back."""

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from mlsd import claims
from mlsd.metrics import Estimate


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    InteractiveShell.instance()  # without a shell, display() prints instead of publishing
    monkeypatch.setattr(claims, "_claims", [])
    monkeypatch.setattr(claims, "_decisions", [])


def records(captured):
    return [output.data[claims.MIME] for output in captured.outputs if claims.MIME in output.data]


def test_a_claim_that_clears_its_bound_is_shown_with_number_interval_and_bound():
    with capture_output() as captured:
        claims.claim("Two is more than one", Estimate(2, 1.5, 2.5), at_least=1, rests_on="arithmetic")
    (record,) = records(captured)
    assert record["held"] and record["rests_on"] == ["arithmetic"]
    assert "2 [1.5, 2.5], claimed at least 1" in captured.outputs[0].data["text/html"]


@pytest.mark.parametrize("bounds", [dict(at_least=1.6), dict(at_most=2.4), dict(at_least=1, at_most=2)])
def test_the_interval_and_not_the_point_must_clear_the_bound(bounds):
    with capture_output() as captured, pytest.raises(claims.ClaimFailed, match="Too bold: measured 2"):
        claims.claim("Too bold", Estimate(2, 1.5, 2.5), **bounds)
    assert not records(captured)[0]["held"] and "✗" in captured.outputs[0].data["text/html"]


def test_a_bare_number_and_a_missing_bound_are_refused():
    with pytest.raises(TypeError, match="expected an Estimate with an interval, found float"):
        claims.claim("No interval", 2.0, at_least=1)
    with pytest.raises(ValueError, match="a claim without a bound cannot fail"):
        claims.claim("No bound", Estimate.exact(2))


def test_recording_does_not_raise(monkeypatch):
    monkeypatch.setenv("MLSD_CLAIMS", "record")
    with capture_output() as captured:
        claims.claim("Too bold", Estimate.exact(0), at_least=1)
        claims.colophon()
    claim, colophon = records(captured)
    assert not claim["held"] and (colophon["claims"], colophon["held"]) == (1, 0)
    assert "mlsd/claims.py" in colophon["modules"] and colophon["peak_memory_mb"] > 0


def test_a_decision_names_its_price_and_escapes_its_text():
    options = pd.DataFrame(dict(latency_ms=[1.0, Estimate(5, 4, 6)]), index=["batch", "online <b>"])
    with capture_output() as captured:
        claims.decision("When?", options, chosen="online <b>", because="x", gives_up="y", flips_when="z")
        claims.decisions_so_far()
    page = captured.outputs[0].data["text/html"]
    assert "online &lt;b&gt;, because x" in page and "5 [4, 6]" in page
    assert "When?" in captured.outputs[1].data["text/html"]


def test_a_choice_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="chosen 'magic' is not among the options"):
        claims.decision("When?", pd.DataFrame(dict(a=[1.0]), index=["batch"]), "magic", "x", "y", "z")
