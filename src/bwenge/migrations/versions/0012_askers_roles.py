"""The role in which a job was asked for, and expired answers found in whatever organisation they are."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN requested_as VARCHAR")
    # Row-level security hides every row from the owner; who may do what is applied anew after the migrations.
    op.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
    # None but owners could ask for what is told of until now: exports and erasures.
    op.execute("UPDATE jobs SET requested_as = 'owner' WHERE requested_by IS NOT NULL")
    op.execute("CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)")


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_expires_at")
    op.execute("ALTER TABLE jobs DROP COLUMN requested_as")
