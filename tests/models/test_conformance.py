"""Every recorded case of every family: fairseq's numbers, and what every model must do.

How a case is run is in `kinds.py`, what is checked in `conformance.py` and
`conformance_weights.py`. A family takes part by its goldens; what they must cover, few of them
cover together (`kinds.covering`: every parameter), and the dearer checks are on those.
"""

from __future__ import annotations

import conformance
import conformance_weights
import family_goldens
import kinds
import pytest
from family_goldens import load

from seqjax import models

CASES = family_goldens.names()
FAMILIES = kinds.by_family()
TEXT = [case for case in CASES if kinds.kind_of(load(case).model)]
TEXTS = {family: cases for family, cases in FAMILIES.items() if set(cases) <= set(TEXT)}
ONE_EACH = [kinds.covering(cases)[0] for cases in TEXTS.values()]
COVERING = [case for cases in FAMILIES.values() for case in kinds.covering(cases)]
TODAYS = [case for case in CASES if conformance_weights.spelled_as_today(load(case))]
"""The others are older files of the same models: what these compute shows that they are read."""
TODAYS_TEXT = [case for case in TODAYS if case in TEXT]
STEPPING = [case for case in TODAYS_TEXT if kinds.steps(load(case).model)]
RATES = [(family, rate) for family, cases in TEXTS.items()
         for rate in conformance.rates(load(cases[0]).config)
         if rate != "pooler_dropout"]  # of heads, which have a test: test_classification_heads.py


def cases(names):
    return pytest.mark.parametrize("name", names)


OF_SPEECH = {"s2t_transformer", "s2t_conformer", "convtransformer", "xm_transformer"}
"""Families that read audio and write text, whose cases are in test_speech_to_text.py."""


def test_every_family_has_a_case():
    """Of fairseq's. Those that have no architecture there are compared with transformers, in
    test_huggingface_families.py."""
    assert FAMILIES.keys() == {
        name for name, family in models.FAMILIES.items() if family.archs} - OF_SPEECH


@cases(TEXT)
def test_log_probabilities_loss_and_gradients_are_fairseqs(name):
    conformance.check_numbers(load(name), kinds.whole(name))


@cases(TEXT)
def test_no_attention_to_padding(name):
    conformance.check_attention(load(name), kinds.whole(name), kinds.batch_of(name))


@cases(TODAYS_TEXT)
def test_a_sentence_is_what_it_is_alone(name):
    conformance.check_rows(name)


@cases(TODAYS_TEXT)
def test_packed_rows_equal_separate_rows(name):
    conformance.check_packing(name, gradients=name in COVERING)


@cases(STEPPING)
def test_decoding_equals_full_forward_and_fairseq(name):
    conformance.check_decoding(name)


@cases(CASES)
def test_parameters_have_the_recorded_names_and_shapes(name):
    conformance_weights.check_shapes(load(name))


@cases(COVERING)
def test_initialisation(name):
    conformance_weights.check_init(load(name))


@cases(CASES)
def test_round_trip_keeps_every_tensor(name):
    conformance_weights.check_round_trip(load(name))


@cases(TODAYS)
def test_moments_of_the_optimizer_go_both_ways_in_fairseqs_order(name):
    conformance_weights.check_order(load(name))
    conformance_weights.check_moments(load(name))


@cases(CASES)
def test_a_mesh_splits_every_projection_as_its_name_says(name):
    conformance_weights.check_split(load(name))


@cases([case for cases in TEXTS.values() for case in kinds.covering_products(cases)])
def test_a_mesh_changes_nothing(name):
    conformance.check_mesh(name)


@cases(ONE_EACH)
def test_dropout(name):
    conformance.check_dropout(name)


@pytest.mark.parametrize(("name", "rate"), [
    pytest.param(family, rate, id=f"{FAMILIES[family][0]}-{rate}") for family, rate in RATES])
def test_every_rate_drops_something(name, rate):
    conformance.check_rate(FAMILIES[name], rate)


@cases(ONE_EACH)
def test_how_it_is_compiled_changes_no_gradient(name):
    conformance.check_runtime(name, ONE_EACH.index(name) % 2)


@cases(ONE_EACH)
def test_half_precision_stays_close(name):
    conformance.check_half_precision(name)
