"""Answers that are kept for requests with an idempotency key."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE idempotency_keys (
            owner BYTEA NOT NULL,
            route VARCHAR NOT NULL,
            key VARCHAR NOT NULL,
            org_id UUID,
            fingerprint BYTEA NOT NULL,
            status INTEGER NOT NULL,
            answer BYTEA NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_idempotency_keys PRIMARY KEY (owner, route, key),
            CONSTRAINT fk_idempotency_keys_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_idempotency_keys_expires ON idempotency_keys (org_id, expires_at)")


def downgrade() -> None:
    op.drop_table("idempotency_keys")
