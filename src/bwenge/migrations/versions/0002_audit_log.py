"""The audit log."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE audit_log (
            id UUID NOT NULL,
            org_id UUID,
            actor_id UUID,
            action VARCHAR NOT NULL,
            target_type VARCHAR,
            target_id VARCHAR,
            address VARCHAR,
            detail JSONB NOT NULL,
            at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_audit_log PRIMARY KEY (id),
            CONSTRAINT fk_audit_log_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_audit_log_org_id ON audit_log (org_id, id)")


def downgrade() -> None:
    op.drop_table("audit_log")
