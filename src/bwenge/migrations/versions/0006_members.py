"""Invitations, join links, and members who were removed."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN erased_at TIMESTAMP WITH TIME ZONE")
    op.execute("DROP INDEX ix_users_org_id")
    op.execute("CREATE INDEX ix_users_org_id ON users (org_id, id)")
    op.execute("""
        CREATE TABLE invitations (
            id UUID NOT NULL,
            org_id UUID NOT NULL,
            email VARCHAR NOT NULL,
            name VARCHAR,
            role VARCHAR NOT NULL,
            token_hash BYTEA NOT NULL,
            invited_by UUID,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_invitations PRIMARY KEY (id),
            CONSTRAINT ck_invitations_role CHECK (role IN ('owner', 'admin', 'expert', 'user')),
            CONSTRAINT fk_invitations_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_invitations_invited_by FOREIGN KEY(invited_by) REFERENCES users (id) ON DELETE SET NULL
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_invitations_token_hash ON invitations (token_hash)")
    op.execute("CREATE UNIQUE INDEX uq_invitations_email ON invitations (org_id, email)")
    op.execute("CREATE INDEX ix_invitations_org_id ON invitations (org_id, id)")
    op.execute("CREATE INDEX ix_invitations_invited_by ON invitations (invited_by)")
    _create_join_links()
    for table in ("invitations", "join_links"):
        op.execute(
            f"CREATE TRIGGER set_updated_at BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION set_updated_at()"
        )


def _create_join_links() -> None:
    op.execute("""
        CREATE TABLE join_links (
            id UUID NOT NULL,
            org_id UUID NOT NULL,
            group_id UUID,
            created_by UUID,
            token_hash BYTEA NOT NULL,
            max_uses INTEGER NOT NULL,
            uses INTEGER DEFAULT '0' NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_join_links PRIMARY KEY (id),
            CONSTRAINT ck_join_links_uses CHECK (uses BETWEEN 0 AND max_uses),
            CONSTRAINT fk_join_links_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_join_links_group_id FOREIGN KEY(group_id) REFERENCES groups (id) ON DELETE CASCADE,
            CONSTRAINT fk_join_links_created_by FOREIGN KEY(created_by) REFERENCES users (id) ON DELETE SET NULL
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_join_links_token_hash ON join_links (token_hash)")
    op.execute("CREATE INDEX ix_join_links_org_id ON join_links (org_id, id)")
    op.execute("CREATE INDEX ix_join_links_group_id ON join_links (group_id)")
    op.execute("CREATE INDEX ix_join_links_created_by ON join_links (created_by, id)")


def downgrade() -> None:
    op.drop_table("join_links")
    op.drop_table("invitations")
    op.execute("DROP INDEX ix_users_org_id")
    op.execute("CREATE INDEX ix_users_org_id ON users (org_id)")
    op.execute("ALTER TABLE users DROP COLUMN erased_at")
