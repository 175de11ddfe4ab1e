"""API keys, and operators: users who belong to no organisation."""

from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE users
            ALTER COLUMN org_id DROP NOT NULL,
            DROP CONSTRAINT ck_users_role,
            ADD CONSTRAINT ck_users_role CHECK (role IN ('owner', 'admin', 'expert', 'user', 'operator')),
            ADD CONSTRAINT ck_users_operator CHECK ((role = 'operator') = (org_id IS NULL))
    """)
    op.execute("ALTER TABLE refresh_tokens ALTER COLUMN org_id DROP NOT NULL")
    op.execute("""
        CREATE TABLE api_keys (
            id UUID NOT NULL,
            org_id UUID NOT NULL,
            created_by UUID NOT NULL,
            name VARCHAR NOT NULL,
            role VARCHAR NOT NULL,
            prefix VARCHAR NOT NULL,
            key_hash BYTEA NOT NULL,
            persona_ids UUID[],
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE,
            last_used_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT pk_api_keys PRIMARY KEY (id),
            CONSTRAINT ck_api_keys_role CHECK (role IN ('owner', 'admin', 'expert', 'user')),
            CONSTRAINT fk_api_keys_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_api_keys_created_by FOREIGN KEY(created_by) REFERENCES users (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_api_keys_key_hash ON api_keys (key_hash)")
    op.execute("CREATE INDEX ix_api_keys_org_id ON api_keys (org_id, id)")
    op.execute("CREATE INDEX ix_api_keys_created_by ON api_keys (created_by)")


def downgrade() -> None:
    """Refused by PostgreSQL while there are operators: the earlier schema has no place for them."""
    op.drop_table("api_keys")
    op.execute("ALTER TABLE refresh_tokens ALTER COLUMN org_id SET NOT NULL")
    op.execute("""
        ALTER TABLE users
            DROP CONSTRAINT ck_users_operator,
            DROP CONSTRAINT ck_users_role,
            ADD CONSTRAINT ck_users_role CHECK (role IN ('owner', 'admin', 'expert', 'user')),
            ALTER COLUMN org_id SET NOT NULL
    """)
