"""Requests made from the OpenAPI document, well-formed and hostile: no 5xx, and each answer is as documented.

A few of each operation in every run; `make fuzz` sends many (FUZZ_EXAMPLES of them).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance
from schemathesis.checks import status_code_conformance as documented_status
from schemathesis.core.result import Ok

from tests.support.platform import REPOSITORY, Caller

FEW: Final = 4
MANY: Final = int(os.environ.get("FUZZ_EXAMPLES", "500"))
CHECKS: Final = [not_a_server_error, documented_status, content_type_conformance, response_schema_conformance]


def send_requests(url: str, headers: dict[str, str], *, examples: int) -> None:
    """So many of each operation; what the first of them breaks is raised, with the request that does."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def probe(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=60)

        probe()


def headers_of(owner: Caller, role: str, *, data_dir: Path) -> dict[str, str]:
    match role:
        case "nobody":
            return {}
        case "owner":
            token = owner.token
        case "operator":
            token = operator_token(owner.url, data_dir)
        case _:
            token = member_token(owner, role)
    return {"Authorization": f"Bearer {token}"}


def member_token(owner: Caller, role: str) -> str:
    email, password = f"{role}.{uuid4().hex[:12]}@school.example", uuid4().hex
    invited = owner.http.post(f"/orgs/{owner.org_id}/invite", json={"email": email, "role": role})
    invited.raise_for_status()
    body = {"name": role.title(), "password": password, "invite_token": invited.json()["invite_token"]}
    joined = owner.http.post("/auth/register", json=body)
    joined.raise_for_status()
    return str(joined.json()["access_token"])


def operator_token(url: str, data_dir: Path) -> str:
    email, password = f"{uuid4().hex[:12]}@platform.example", uuid4().hex
    arguments = ["create-operator", email, "--password-stdin", "--data-dir", str(data_dir)]
    subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "bwenge", *arguments],
        input=password.encode(),
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        check=True,
    )
    return Caller.log_in(url, identifier=email, password=password).token


ROLES: Final = ("nobody", "user", "expert", "admin", "owner", "operator")


@pytest.mark.parametrize("role", ROLES)
def test_a_few_requests_of_each_operation_are_answered_as_documented(owner: Caller, data_dir: Path, role: str) -> None:
    send_requests(owner.url, headers_of(owner, role, data_dir=data_dir), examples=FEW)


@pytest.mark.fuzz
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("role", ROLES)
def test_many_requests_of_each_operation_are_answered_as_documented(owner: Caller, data_dir: Path, role: str) -> None:
    send_requests(owner.url, headers_of(owner, role, data_dir=data_dir), examples=MANY)
