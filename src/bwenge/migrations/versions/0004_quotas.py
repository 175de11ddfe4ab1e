"""Subscriptions, and quotas with their reservations."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_subscriptions()
    _create_quotas()
    for table in ("subscriptions", "usage_quotas", "quota_reservations"):
        op.execute(
            f"CREATE TRIGGER set_updated_at BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION set_updated_at()"
        )


def _create_subscriptions() -> None:
    op.execute("""
        CREATE TABLE subscriptions (
            id UUID NOT NULL,
            org_id UUID NOT NULL,
            plan_name VARCHAR NOT NULL,
            status VARCHAR NOT NULL,
            current_period_start TIMESTAMP WITH TIME ZONE NOT NULL,
            current_period_end TIMESTAMP WITH TIME ZONE NOT NULL,
            cancel_at_period_end BOOLEAN DEFAULT false NOT NULL,
            provider_subscription_id VARCHAR,
            granted_reason VARCHAR,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_subscriptions PRIMARY KEY (id),
            CONSTRAINT fk_subscriptions_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT ck_subscriptions_plan_name CHECK (plan_name IN ('free', 'basic', 'pro', 'enterprise')),
            CONSTRAINT ck_subscriptions_status
                CHECK (status IN ('pending', 'active', 'past_due', 'cancelled', 'expired')),
            CONSTRAINT ck_subscriptions_period CHECK (current_period_start <= current_period_end)
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_subscriptions_in_force ON subscriptions (org_id)
        WHERE status IN ('active', 'past_due')
    """)
    op.execute("CREATE INDEX ix_subscriptions_org_id ON subscriptions (org_id, id)")


def _create_quotas() -> None:
    op.execute("""
        CREATE TABLE usage_quotas (
            org_id UUID NOT NULL,
            kind VARCHAR NOT NULL,
            period_start TIMESTAMP WITH TIME ZONE NOT NULL,
            used BIGINT DEFAULT '0' NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_usage_quotas PRIMARY KEY (org_id, kind, period_start),
            CONSTRAINT fk_usage_quotas_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT ck_usage_quotas_kind CHECK (kind IN ('messages', 'storage')),
            CONSTRAINT ck_usage_quotas_used CHECK (used >= 0)
        )
    """)
    op.execute("""
        CREATE TABLE quota_reservations (
            org_id UUID NOT NULL,
            kind VARCHAR NOT NULL,
            act_id UUID NOT NULL,
            period_start TIMESTAMP WITH TIME ZONE NOT NULL,
            amount BIGINT NOT NULL,
            state VARCHAR DEFAULT 'reserved' NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            CONSTRAINT pk_quota_reservations PRIMARY KEY (org_id, kind, act_id),
            CONSTRAINT fk_quota_reservations_org_id
                FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
            CONSTRAINT fk_quota_reservations_org_id_kind_period_start
                FOREIGN KEY(org_id, kind, period_start)
                REFERENCES usage_quotas (org_id, kind, period_start) ON DELETE CASCADE,
            CONSTRAINT ck_quota_reservations_kind CHECK (kind IN ('messages', 'storage')),
            CONSTRAINT ck_quota_reservations_state CHECK (state IN ('reserved', 'settled', 'released')),
            CONSTRAINT ck_quota_reservations_amount CHECK (amount >= 0)
        )
    """)
    op.execute("CREATE INDEX ix_quota_reservations_period ON quota_reservations (org_id, kind, period_start)")


def downgrade() -> None:
    for table in ("quota_reservations", "usage_quotas", "subscriptions"):
        op.drop_table(table)
