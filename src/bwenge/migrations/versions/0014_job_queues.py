"""Queues by the kind of work, jobs that a broker carries, workers that say they are there, and sources in two jobs."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN published_at TIMESTAMP WITH TIME ZONE")
    op.execute("ALTER TABLE jobs ALTER COLUMN queue SET DEFAULT 'maintenance'")
    op.execute("""
        CREATE INDEX ix_jobs_unpublished ON jobs (run_after, id) WHERE state = 'queued' AND published_at IS NULL
    """)
    op.execute("CREATE INDEX ix_jobs_published ON jobs (published_at) WHERE state IN ('queued', 'running')")
    op.execute("CREATE INDEX ix_jobs_finished_at ON jobs (finished_at) WHERE state IN ('done', 'dead')")
    op.execute("""
        CREATE TABLE job_workers (
            name VARCHAR NOT NULL,
            queues VARCHAR[] NOT NULL,
            running INTEGER NOT NULL,
            seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_job_workers PRIMARY KEY (name)
        )
    """)
    op.execute("""
        CREATE TABLE job_schedules (
            kind VARCHAR NOT NULL,
            asked_until TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_job_schedules PRIMARY KEY (kind)
        )
    """)
    # A source that can be found by keyword already is handed over to the second job by the first, which is queued.
    op.execute("ALTER TABLE knowledge_sources ADD COLUMN run INTEGER DEFAULT '0' NOT NULL")
    op.execute("CREATE INDEX ix_refresh_tokens_expires_at ON refresh_tokens (expires_at)")
    # Row-level security hides every row from the owner; who may do what is applied anew after the migrations.
    op.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        UPDATE jobs SET queue = CASE
            WHEN kind = 'knowledge.ingest' THEN 'extraction'
            WHEN kind IN ('organisation.export', 'organisation.erase') THEN 'reports'
            ELSE 'maintenance'
        END
        WHERE queue = 'default'
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
    # The one job of before does what is left for either of the two; one is enough.
    op.execute("""
        UPDATE jobs SET kind = 'knowledge.ingest', dedupe_key = NULL
        WHERE kind = 'knowledge.embed' AND state IN ('queued', 'running')
    """)
    op.execute("UPDATE jobs SET queue = 'default' WHERE queue <> 'maintenance'")
    op.drop_index("ix_refresh_tokens_expires_at")
    op.execute("ALTER TABLE knowledge_sources DROP COLUMN run")
    op.execute("DROP TABLE job_schedules")
    op.execute("DROP TABLE job_workers")
    for index in ("ix_jobs_finished_at", "ix_jobs_published", "ix_jobs_unpublished"):
        op.drop_index(index)
    op.execute("ALTER TABLE jobs ALTER COLUMN queue SET DEFAULT 'default'")
    op.execute("ALTER TABLE jobs DROP COLUMN published_at")
