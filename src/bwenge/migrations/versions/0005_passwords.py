"""Wrong passwords, and links and codes to set a forgotten one."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE login_failures (
            account_hash BYTEA NOT NULL,
            network VARCHAR NOT NULL,
            failures INTEGER NOT NULL,
            first_failed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            last_failed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_login_failures PRIMARY KEY (account_hash, network)
        )
    """)
    op.execute("CREATE INDEX ix_login_failures_last_failed_at ON login_failures (last_failed_at)")
    op.execute("""
        CREATE TABLE password_reset_links (
            token_hash BYTEA NOT NULL,
            org_id UUID NOT NULL,
            user_id UUID NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_password_reset_links PRIMARY KEY (token_hash),
            CONSTRAINT fk_password_reset_links_org_id
                FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_password_reset_links_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_password_reset_links_user_id ON password_reset_links (user_id)")
    op.execute("CREATE INDEX ix_password_reset_links_org_id ON password_reset_links (org_id)")
    op.execute("""
        CREATE TABLE password_reset_codes (
            user_id UUID NOT NULL,
            org_id UUID NOT NULL,
            code_hash VARCHAR NOT NULL,
            tries INTEGER DEFAULT 0 NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_password_reset_codes PRIMARY KEY (user_id),
            CONSTRAINT fk_password_reset_codes_org_id
                FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_password_reset_codes_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_password_reset_codes_org_id ON password_reset_codes (org_id)")


def downgrade() -> None:
    for table in ("password_reset_codes", "password_reset_links", "login_failures"):
        op.drop_table(table)
