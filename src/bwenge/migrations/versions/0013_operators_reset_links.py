"""Links to set a password with are mailed to operators too, who are in no organisation."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE password_reset_links ALTER COLUMN org_id DROP NOT NULL")


def downgrade() -> None:
    # A link lives for an hour, and another one is mailed within seconds; a policy hides the rows from a DELETE.
    op.execute("TRUNCATE password_reset_links")
    op.execute("ALTER TABLE password_reset_links ALTER COLUMN org_id SET NOT NULL")
