"""Who issued a code to set a password with, whose power it must not outlive."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nobody can say who issued the codes of the last day, and another one is shown within seconds; a DELETE would find
    # none, since the owner sees no tenant's rows.
    op.execute("TRUNCATE password_reset_codes")
    op.execute("""
        ALTER TABLE password_reset_codes
            ADD COLUMN issued_by UUID NOT NULL,
            ADD CONSTRAINT fk_password_reset_codes_issued_by
                FOREIGN KEY (issued_by) REFERENCES users (id) ON DELETE CASCADE
    """)
    op.execute("CREATE INDEX ix_password_reset_codes_issued_by ON password_reset_codes (issued_by)")


def downgrade() -> None:
    op.execute("ALTER TABLE password_reset_codes DROP COLUMN issued_by")
