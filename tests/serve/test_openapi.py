"""Requests that schemathesis makes of the OpenAPI document: valid ones, and wrong ones of every kind."""

import collections

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import service_of

from toxicity.serve.app import create_app

REQUESTS = 50  # of each operation
PERSPECTIVE = ("/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore")
DOCUMENTED = {"/healthz", "/readyz", "/metrics", "/v1/score", "/v1/model", "/v1/moderations", *PERSPECTIVE}


@pytest.fixture
def schema(scorer, tmp_path):
    service = service_of(scorer, suggestions=tmp_path / "suggested.jsonl")
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service))


def test_no_request_makes_the_service_fail(schema, capsys):
    """Nor is one answered in a form that the document does not name; the count is printed."""
    answers = collections.Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=REQUESTS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(*(operation.as_strategy(mode) for mode in GenerationMode)))
        def ask(case):
            # No field of Perspective's messages is required by their schema; their content says what is refused.
            lax = [positive_data_acceptance] if case.operation.path in PERSPECTIVE else []
            answers[case.operation.path, case.call_and_validate(excluded_checks=lax).status_code] += 1

        ask()
    assert {path for path, _ in answers} >= DOCUMENTED
    with capsys.disabled():
        by_status = collections.Counter()
        for (_, status), count in answers.items():
            by_status[status] += count
        print(f"\nschemathesis: {by_status.total()} requests, answered with {dict(sorted(by_status.items()))}")
