"""Organisations that are being erased or were, and what is told of a job."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE organizations ADD COLUMN deleted_at TIMESTAMP WITH TIME ZONE")
    op.execute("""
        ALTER TABLE jobs
            ADD COLUMN requested_by UUID,
            ADD COLUMN progress DOUBLE PRECISION DEFAULT '0' NOT NULL,
            ADD COLUMN result JSONB,
            ADD COLUMN error_code VARCHAR
    """)
    op.execute("""
        CREATE TABLE erased_organizations (
            id UUID NOT NULL,
            reference UUID NOT NULL,
            requested_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            erased_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT pk_erased_organizations PRIMARY KEY (id)
        )
    """)
    # An erased member's row is taken out of these by their foreign keys, and each would be searched from end to end.
    op.execute("CREATE INDEX ix_analytics_events_user_id ON analytics_events (user_id)")
    op.execute("CREATE INDEX ix_knowledge_sources_uploaded_by ON knowledge_sources (uploaded_by)")


def downgrade() -> None:
    op.drop_index("ix_knowledge_sources_uploaded_by")
    op.drop_index("ix_analytics_events_user_id")
    op.drop_table("erased_organizations")
    op.execute("ALTER TABLE jobs DROP COLUMN requested_by, DROP COLUMN progress, DROP COLUMN result")
    op.execute("ALTER TABLE jobs DROP COLUMN error_code")
    op.execute("ALTER TABLE organizations DROP COLUMN deleted_at")
