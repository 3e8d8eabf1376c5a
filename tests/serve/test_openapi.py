"""Requests that schemathesis makes of the OpenAPI document: valid ones, and wrong ones of every kind."""

import collections

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from serving import service_of

from toxicity.serve.app import create_app

REQUESTS = 50  # of each operation
DOCUMENTED = {"/healthz", "/readyz", "/metrics", "/v1/score", "/v1/model"}


@pytest.fixture
def schema(scorer):
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service_of(scorer)))


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
            answers[case.operation.path, case.call_and_validate().status_code] += 1

        ask()
    assert {path for path, _ in answers} >= DOCUMENTED
    with capsys.disabled():
        by_status = collections.Counter()
        for (_, status), count in answers.items():
            by_status[status] += count
        print(f"\nschemathesis: {by_status.total()} requests, answered with {dict(sorted(by_status.items()))}")
