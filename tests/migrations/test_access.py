"""What the database grants is what bwenge/migrations/access.py lists, and no role can step around it."""

from typing import Final

import pytest
from sqlalchemy import text

from bwenge.kit.db import APP_ROLE, OWNER_ROLE, PLATFORM_ROLE, STEWARD_ROLE
from bwenge.migrations.access import ACCESS, STEWARD
from tests.support.databases import SavepointDatabase

PRIVILEGES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
TENANT_TABLES: Final = sorted(name for name, access in ACCESS.items() if access.tenant is not None)
OTHER_TABLES: Final = sorted(ACCESS.keys() - set(TENANT_TABLES))


async def privileges(database: SavepointDatabase, role: str, table: str) -> set[str]:
    async with database.superuser() as connection:
        held = await connection.execute(
            text("SELECT p FROM unnest(CAST(:privileges AS text[])) p WHERE has_table_privilege(:role, :table, p)"),
            {"privileges": list(PRIVILEGES), "role": role, "table": table},
        )
        return set(held.scalars())


@pytest.mark.parametrize("table", sorted(ACCESS))
@pytest.mark.parametrize("role", [APP_ROLE, PLATFORM_ROLE])
async def test_a_role_holds_exactly_the_listed_privileges(database: SavepointDatabase, table: str, role: str) -> None:
    listed = ACCESS[table].app if role == APP_ROLE else ACCESS[table].platform

    assert await privileges(database, role, table) == set((listed or "").replace(",", "").split())


async def test_of_some_tables_the_application_reads_the_listed_columns_and_no_other(
    database: SavepointDatabase,
) -> None:
    """Found over all columns of all tables, so that no column is granted beside the list."""
    query = """
        SELECT relname::text, array_agg(attname::text ORDER BY attname)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
            AND has_column_privilege(:role, attrelid, attnum, 'SELECT')
            AND NOT has_table_privilege(:role, attrelid, 'SELECT')
        GROUP BY relname
    """
    async with database.superuser() as connection:
        rows = await connection.execute(text(query), {"role": APP_ROLE})

    assert dict(rows.all()) == {name: sorted(access.app_reads) for name, access in ACCESS.items() if access.app_reads}


@pytest.mark.parametrize("table", sorted(ACCESS))
async def test_the_steward_reads_and_deletes_in_each_tenant_table_and_in_no_other(
    database: SavepointDatabase, table: str
) -> None:
    allowed = STEWARD if table in TENANT_TABLES else ""

    assert await privileges(database, STEWARD_ROLE, table) == set(allowed.replace(",", "").split())


@pytest.mark.parametrize(("role", "held"), [(APP_ROLE, set()), (PLATFORM_ROLE, {"SELECT"}), (STEWARD_ROLE, set())])
async def test_no_serving_role_changes_the_migration_history(
    database: SavepointDatabase, role: str, held: set[str]
) -> None:
    assert await privileges(database, role, "alembic_version") == held


async def test_every_table_belongs_to_the_owner(database: SavepointDatabase) -> None:
    async with database.superuser() as connection:
        owners = await connection.execute(
            text("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'")
        )

    assert {table: owner for table, owner in owners if owner != OWNER_ROLE} == {}


@pytest.mark.parametrize("role", [OWNER_ROLE, APP_ROLE, PLATFORM_ROLE, STEWARD_ROLE])
async def test_no_role_steps_around_row_level_security(database: SavepointDatabase, role: str) -> None:
    async with database.superuser() as connection:
        powers = await connection.execute(
            text(
                "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
                " WHERE rolname = :role"
            ),
            {"role": role},
        )

    assert tuple(powers.one()) == (False, False, False, False, False)


async def test_nobody_logs_in_as_the_owner(database: SavepointDatabase) -> None:
    async with database.superuser() as connection:
        can_login = await connection.scalar(
            text("SELECT rolcanlogin FROM pg_roles WHERE rolname = :role"), {"role": OWNER_ROLE}
        )

    assert can_login is False


@pytest.mark.parametrize("role", [APP_ROLE, PLATFORM_ROLE, STEWARD_ROLE])
async def test_a_serving_role_is_a_member_of_no_other(database: SavepointDatabase, role: str) -> None:
    async with database.superuser() as connection:
        memberships = await connection.execute(
            text("SELECT roleid::regrole::text FROM pg_auth_members WHERE member = CAST(:role AS regrole)"),
            {"role": role},
        )

    assert list(memberships.scalars()) == []


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_a_tenant_table_has_row_level_security_enabled_and_forced(
    database: SavepointDatabase, table: str
) -> None:
    async with database.superuser() as connection:
        flags = await connection.execute(
            text("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = CAST(:table AS regclass)"),
            {"table": table},
        )

    assert tuple(flags.one()) == (True, True)


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_a_tenant_table_has_the_two_declared_policies_and_no_other(
    database: SavepointDatabase, table: str
) -> None:
    async with database.superuser() as connection:
        found = await connection.execute(
            text(
                "SELECT policyname, permissive, array_to_string(roles, ','), cmd, qual, with_check"
                " FROM pg_policies WHERE tablename = :table ORDER BY policyname"
            ),
            {"table": table},
        )
        platform, tenant = (tuple(row) for row in found)

    rule = f"({ACCESS[table].tenant} = (NULLIF(current_setting('bwenge.org_id'::text, true), ''::text))::uuid)"
    assert platform == ("platform", "PERMISSIVE", PLATFORM_ROLE, "ALL", "true", "true")
    assert tenant == ("tenant", "PERMISSIVE", f"{APP_ROLE},{STEWARD_ROLE}", "ALL", rule, rule)


async def test_tables_without_tenants_are_read_only_for_the_application(database: SavepointDatabase) -> None:
    held = {table: await privileges(database, APP_ROLE, table) for table in OTHER_TABLES}

    assert {table: privileges for table, privileges in held.items() if not privileges <= {"SELECT"}} == {}
