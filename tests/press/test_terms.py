"""Terms of the glossary: how they are found in prose, and which passage an entry leads to."""

import pytest
from docutils import nodes
from docutils.utils import new_document

from press import terms

NAMES = ["AUC", "As of", "Guardrail", "Propensity", "Policy", "Recall@k", "Negative downsampling", "Position bias"]
TERMS = [terms.Term(name, terms.pattern_of(name), f"What {name} is.", f"term-{name}") for name in NAMES]


@pytest.mark.parametrize(
    "name, written",
    [("AUC", "AUC"), ("Guardrail", "guardrails"), ("Propensity", "propensities"), ("Recall@k", "recall@10"), ("As of", "as of")],
)
def test_a_term_is_found_as_it_is_written(name, written):
    assert terms.pattern_of(name).search(f"by ({written}), too")


@pytest.mark.parametrize(
    "name, written", [("AUC", "auc"), ("Policy", "policyholder"), ("PSI", "UPSI"), ("ANN", "ann"), ("Shadow", "shadow-free")]
)
def test_another_word_is_no_use_of_it(name, written):
    assert not terms.pattern_of(name).search(f"by {written} too")


def heading(title, *inside, anchor=None):
    return nodes.section("", nodes.title("", title), *inside, ids=[anchor or title.lower().replace(" ", "-")])


def prose(*words):
    return nodes.paragraph("", "", *(nodes.Text(word) if isinstance(word, str) else word for word in words))


def cell(source):
    return nodes.container("", nodes.literal_block(source, source), nb_element="cell_code")


def chapter():
    page = new_document("chapter")
    data = heading("Data", prose("A propensity and a guardrail. ", nodes.literal("", "AUC"), " is code."), prose("A propensity again."))
    deep = heading("Position bias", prose("Propensities once more, and a ", nodes.reference("", "policy"), "."))
    claim = cell('gain = auc(y)\nclaim("The guardrail holds", gain, rests_on=["position_bias"], broken_by=("policy", "AUC"))')
    page += heading("Chapter", prose("A policy of the front."), data, heading("Model", prose("No term."), deep, claim))
    return page


def test_the_first_use_in_the_prose_of_each_section_is_marked():
    page = chapter()
    terms.mark(page, TERMS)
    marked = [(use.astext(), use["definition"]) for use in page.findall(terms.term_use)]
    assert marked == [("propensity", "What Propensity is."), ("guardrail", "What Guardrail is."), ("Propensities", "What Propensity is.")]
    assert next(iter(page.findall(nodes.paragraph))).astext() == "A policy of the front."
    assert "A propensity and a guardrail. AUC is code." in page.astext()  # no word is lost


def test_an_entry_leads_to_what_is_measured_before_what_is_only_used():
    found = terms.passages("chapters/x", chapter(), TERMS)
    assert {name: (passage.section, passage.measured) for name, passage in found.items()} == {
        "Propensity": ("data", False),
        "Guardrail": ("model", True),
        "Position bias": ("model", True),
    }


def test_what_would_break_a_claim_is_not_what_it_is_about():
    assert "AUC" not in terms.measured_in('claim("It holds", x, broken_by=("policy", "AUC"))')
    assert terms.measured_in("claim(") == terms.measured_in("say('AUC')") == ""
