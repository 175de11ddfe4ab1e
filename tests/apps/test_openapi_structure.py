"""The OpenAPI document is sound by its own rules, and real answers are what it says."""

import re
from typing import Any, Final
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from tests.support.application import Application, Person

METHODS: Final = {"get", "put", "post", "delete", "patch", "head", "options"}
# The parts of the OpenAPI 3.1 schema that this document uses, from https://spec.openapis.org/oas/3.1/schema/2022-10-07.
STRUCTURE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"pattern": r"^3\.1\.\d+$"},
        "info": {"required": ["title", "version"], "properties": {"version": {"type": "string"}}},
        "paths": {
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "propertyNames": {"enum": sorted(METHODS)},
                "additionalProperties": {"$ref": "#/$defs/operation"},
            },
        },
        "components": {"properties": {"schemas": {"propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"}}}},
    },
    "$defs": {
        "operation": {
            "required": ["responses", "operationId", "tags"],
            "properties": {
                "parameters": {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
                "requestBody": {"required": ["content"], "properties": {"content": {"$ref": "#/$defs/content"}}},
                "responses": {
                    "minProperties": 1,
                    "propertyNames": {"pattern": r"^[1-5]\d\d$"},
                    "additionalProperties": {
                        "required": ["description"],
                        "properties": {"description": {"minLength": 1}, "content": {"$ref": "#/$defs/content"}},
                    },
                },
            },
        },
        "parameter": {
            "required": ["name", "in", "schema"],
            "properties": {"in": {"enum": ["path", "query", "header", "cookie"]}},
            "if": {"properties": {"in": {"const": "path"}}},
            "then": {"required": ["required"], "properties": {"required": {"const": True}}},
        },
        "content": {"propertyNames": {"pattern": r"^[a-z]+/[a-z0-9.+-]+$"}, "minProperties": 1},
    },
}


@pytest.fixture
def document(application: Application) -> dict[str, Any]:
    return application.app.openapi()


def test_the_document_is_built_as_openapi_3_1_demands(document: dict[str, Any]) -> None:
    findings = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(STRUCTURE).iter_errors(document)
    ]
    assert findings == []


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_part_of_a_path_is_a_parameter_and_every_parameter_a_part(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {part["name"] for part in operation.get("parameters", ()) if part["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path


def test_the_upload_is_documented_as_the_form_that_it_is(document: dict[str, Any]) -> None:
    content = document["paths"]["/knowledge/upload"]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]
    assert (set(form["properties"]), form["required"]) == ({"file", "persona_id", "title"}, ["file", "persona_id"])


def test_what_needs_a_login_says_how(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path in ("/knowledge/upload", "/ai/respond", "/personas"):
        assert document["paths"][path]["post"]["security"] == [{"HTTPBearer": []}]


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def source_id(application: Application, owner: Person) -> UUID:
    persona_id = await application.create_persona(owner)
    return await application.add_document(owner, persona_id, b"The fare from Kigali to Huye is 3,200 francs.")


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/knowledge/sources", "/knowledge/sources"),
        ("/knowledge/{source_id}/status", "/knowledge/{}/status"),
        ("/knowledge/{source_id}/chunks", "/knowledge/{}/chunks"),
        ("/personas", "/personas"),
        ("/health/ready", "/health/ready"),
        ("/health", "/health"),
    ],
)
async def test_a_real_answer_is_what_the_document_says(
    application: Application, owner: Person, source_id: UUID, document: dict[str, Any], path: str, address: str
) -> None:
    answer = await application.client.get(address.format(source_id), headers=owner.headers)
    responses = document["paths"][path]["get"]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    Draft202012Validator(schema | {"components": document["components"]}).validate(answer.json())


async def test_a_real_refusal_is_what_the_document_says(
    application: Application, owner: Person, document: dict[str, Any]
) -> None:
    answer = await application.client.get("/knowledge/sources?limit=0", headers=owner.headers)
    refusal = document["paths"]["/knowledge/sources"]["get"]["responses"]["422"]
    schema = refusal["content"]["application/problem+json"]["schema"]
    Draft202012Validator(schema | {"components": document["components"]}).validate(answer.json())
