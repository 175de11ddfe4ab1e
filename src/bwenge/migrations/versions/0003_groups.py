"""Groups (classes), their learners and their personas."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE groups (
            id UUID NOT NULL,
            org_id UUID NOT NULL,
            name VARCHAR NOT NULL,
            owner_id UUID,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_groups PRIMARY KEY (id),
            CONSTRAINT fk_groups_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_groups_owner_id FOREIGN KEY(owner_id) REFERENCES users (id) ON DELETE SET NULL
        )
    """)
    op.execute("CREATE INDEX ix_groups_org_id ON groups (org_id, id)")
    op.execute("CREATE INDEX ix_groups_owner_id ON groups (owner_id)")
    op.execute("CREATE TRIGGER set_updated_at BEFORE UPDATE ON groups FOR EACH ROW EXECUTE FUNCTION set_updated_at()")
    op.execute("""
        CREATE TABLE group_members (
            group_id UUID NOT NULL,
            user_id UUID NOT NULL,
            org_id UUID NOT NULL,
            CONSTRAINT pk_group_members PRIMARY KEY (group_id, user_id),
            CONSTRAINT fk_group_members_group_id FOREIGN KEY(group_id) REFERENCES groups (id) ON DELETE CASCADE,
            CONSTRAINT fk_group_members_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
            CONSTRAINT fk_group_members_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_group_members_user_id ON group_members (user_id)")
    op.execute("CREATE INDEX ix_group_members_org_id ON group_members (org_id)")
    op.execute("""
        CREATE TABLE group_personas (
            group_id UUID NOT NULL,
            persona_id UUID NOT NULL,
            org_id UUID NOT NULL,
            CONSTRAINT pk_group_personas PRIMARY KEY (group_id, persona_id),
            CONSTRAINT fk_group_personas_group_id FOREIGN KEY(group_id) REFERENCES groups (id) ON DELETE CASCADE,
            CONSTRAINT fk_group_personas_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_group_personas_persona_id ON group_personas (persona_id)")
    op.execute("CREATE INDEX ix_group_personas_org_id ON group_personas (org_id)")


def downgrade() -> None:
    for table in ("group_personas", "group_members", "groups"):
        op.drop_table(table)
