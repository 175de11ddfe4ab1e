-- Organisations and users, jobs, blobs, personas, knowledge with its two indexes, conversations, analytics events.
-- Grants and row-level security stand in bwenge/migrations/access.py and are applied after every migration.

CREATE TABLE organizations (
    id UUID NOT NULL,
    name VARCHAR NOT NULL,
    time_zone VARCHAR DEFAULT 'Africa/Kigali' NOT NULL,
    language VARCHAR DEFAULT 'en' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_organizations PRIMARY KEY (id)
);

CREATE TABLE blobs (
    org_id UUID NOT NULL,
    sha256 VARCHAR NOT NULL,
    size BIGINT NOT NULL,
    state VARCHAR DEFAULT 'present' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_blobs PRIMARY KEY (org_id, sha256),
    CONSTRAINT ck_blobs_state CHECK (state IN ('present', 'deleting'))
);

CREATE TABLE jobs (
    id UUID NOT NULL,
    org_id UUID,
    kind VARCHAR NOT NULL,
    queue VARCHAR DEFAULT 'default' NOT NULL,
    payload JSONB NOT NULL,
    state VARCHAR DEFAULT 'queued' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    max_attempts INTEGER DEFAULT '5' NOT NULL,
    run_after TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE,
    worker VARCHAR,
    dedupe_key VARCHAR,
    ordering_key VARCHAR,
    last_error VARCHAR,
    finished_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'done', 'dead'))
);

CREATE UNIQUE INDEX uq_jobs_dedupe ON jobs (dedupe_key) WHERE state IN ('queued', 'running');

CREATE INDEX ix_jobs_claimable ON jobs (queue, run_after, id) WHERE state = 'queued';

CREATE INDEX ix_jobs_leases ON jobs (lease_until) WHERE state = 'running';

CREATE INDEX ix_jobs_org_id ON jobs (org_id);

CREATE INDEX ix_jobs_ordering ON jobs (ordering_key, id) WHERE ordering_key IS NOT NULL AND state IN ('queued', 'running');

CREATE TABLE users (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    email VARCHAR,
    username VARCHAR,
    password_hash VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    is_active BOOLEAN DEFAULT true NOT NULL,
    language VARCHAR DEFAULT 'en' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT ck_users_role CHECK (role IN ('owner', 'admin', 'expert', 'user')),
    CONSTRAINT ck_users_identifier CHECK (email IS NOT NULL OR username IS NOT NULL),
    CONSTRAINT fk_users_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX uq_users_email ON users (lower(email));

CREATE UNIQUE INDEX uq_users_username ON users (lower(username));

CREATE INDEX ix_users_org_id ON users (org_id);

CREATE TABLE blob_references (
    org_id UUID NOT NULL,
    sha256 VARCHAR NOT NULL,
    owner_id UUID NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_blob_references PRIMARY KEY (org_id, sha256, owner_id),
    CONSTRAINT fk_blob_references_blob FOREIGN KEY(org_id, sha256) REFERENCES blobs (org_id, sha256) ON DELETE RESTRICT
);

CREATE TABLE analytics_events (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    user_id UUID,
    persona_id UUID,
    session_id UUID,
    event_type VARCHAR NOT NULL,
    payload JSONB NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_analytics_events PRIMARY KEY (id),
    CONSTRAINT fk_analytics_events_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_analytics_events_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE SET NULL
);

CREATE INDEX ix_analytics_events_org_id ON analytics_events (org_id, occurred_at);

CREATE TABLE refresh_tokens (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    family_id UUID NOT NULL,
    token_hash BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_refresh_tokens PRIMARY KEY (id),
    CONSTRAINT fk_refresh_tokens_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_refresh_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_refresh_tokens_family_id ON refresh_tokens (family_id);

CREATE INDEX ix_refresh_tokens_user_id ON refresh_tokens (user_id);

CREATE UNIQUE INDEX uq_refresh_tokens_token_hash ON refresh_tokens (token_hash);

CREATE INDEX ix_refresh_tokens_org_id ON refresh_tokens (org_id);

CREATE TABLE personas (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    owner_id UUID,
    name VARCHAR NOT NULL,
    description VARCHAR DEFAULT '' NOT NULL,
    tone JSONB NOT NULL,
    rules JSONB NOT NULL,
    sample_prompts JSONB NOT NULL,
    safety_rules JSONB NOT NULL,
    settings JSONB NOT NULL,
    is_active BOOLEAN DEFAULT true NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_personas PRIMARY KEY (id),
    CONSTRAINT fk_personas_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_personas_owner_id FOREIGN KEY(owner_id) REFERENCES users (id) ON DELETE SET NULL
);

CREATE INDEX ix_personas_owner_id ON personas (owner_id);

CREATE INDEX ix_personas_org_id ON personas (org_id, id);

CREATE TABLE conversations (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    persona_id UUID NOT NULL,
    title VARCHAR NOT NULL,
    message_count INTEGER DEFAULT '0' NOT NULL,
    last_seq BIGINT DEFAULT '0' NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_conversations PRIMARY KEY (id),
    CONSTRAINT fk_conversations_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_conversations_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT fk_conversations_persona_id FOREIGN KEY(persona_id) REFERENCES personas (id) ON DELETE CASCADE
);

CREATE INDEX ix_conversations_persona_id ON conversations (persona_id);

CREATE INDEX ix_conversations_user_id ON conversations (user_id, id);

CREATE INDEX ix_conversations_org_id ON conversations (org_id);

CREATE TABLE knowledge_sources (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    persona_id UUID NOT NULL,
    uploaded_by UUID,
    title VARCHAR NOT NULL,
    file_name VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    file_size BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    status VARCHAR DEFAULT 'pending' NOT NULL,
    stage VARCHAR DEFAULT 'queued' NOT NULL,
    searchable VARCHAR DEFAULT 'none' NOT NULL,
    progress DOUBLE PRECISION DEFAULT '0' NOT NULL,
    units_done INTEGER DEFAULT '0' NOT NULL,
    units_total INTEGER,
    chunk_count INTEGER DEFAULT '0' NOT NULL,
    page_count INTEGER,
    token_count BIGINT DEFAULT '0' NOT NULL,
    term_count BIGINT DEFAULT '0' NOT NULL,
    language VARCHAR,
    languages VARCHAR[] DEFAULT '{}' NOT NULL,
    embedding_model VARCHAR,
    warnings JSONB DEFAULT '[]'::jsonb NOT NULL,
    error_code VARCHAR,
    error_message VARCHAR,
    attempts INTEGER DEFAULT '0' NOT NULL,
    stage_started_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_knowledge_sources PRIMARY KEY (id),
    CONSTRAINT ck_knowledge_sources_status CHECK (status IN ('pending', 'processing', 'ready', 'failed')),
    CONSTRAINT ck_knowledge_sources_searchable CHECK (searchable IN ('none', 'keyword', 'full')),
    CONSTRAINT fk_knowledge_sources_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_knowledge_sources_persona_id FOREIGN KEY(persona_id) REFERENCES personas (id) ON DELETE CASCADE,
    CONSTRAINT fk_knowledge_sources_uploaded_by FOREIGN KEY(uploaded_by) REFERENCES users (id) ON DELETE SET NULL
);

CREATE UNIQUE INDEX uq_knowledge_sources_content ON knowledge_sources (persona_id, sha256) WHERE deleted_at IS NULL;

CREATE INDEX ix_knowledge_sources_org_id ON knowledge_sources (org_id, id);

CREATE INDEX ix_knowledge_sources_persona_id ON knowledge_sources (persona_id, id);

CREATE TABLE messages (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    sender VARCHAR NOT NULL,
    content VARCHAR NOT NULL,
    details JSONB NOT NULL,
    client_msg_id UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_messages PRIMARY KEY (id),
    CONSTRAINT ck_messages_sender CHECK (sender IN ('user', 'assistant')),
    CONSTRAINT fk_messages_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_messages_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);

CREATE INDEX ix_messages_conversation_id ON messages (conversation_id, id);

CREATE UNIQUE INDEX uq_messages_client_msg_id ON messages (conversation_id, client_msg_id) WHERE client_msg_id IS NOT NULL;

CREATE INDEX ix_messages_org_id ON messages (org_id);

CREATE TABLE knowledge_chunks (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    source_id UUID NOT NULL,
    chunk_index INTEGER NOT NULL,
    text VARCHAR NOT NULL,
    token_count INTEGER NOT NULL,
    term_count INTEGER NOT NULL,
    language VARCHAR NOT NULL,
    locator JSONB NOT NULL,
    place_starts JSONB NOT NULL,
    CONSTRAINT pk_knowledge_chunks PRIMARY KEY (id),
    CONSTRAINT fk_knowledge_chunks_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_knowledge_chunks_source_id FOREIGN KEY(source_id) REFERENCES knowledge_sources (id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX uq_knowledge_chunks_place ON knowledge_chunks (source_id, chunk_index);

CREATE INDEX ix_knowledge_chunks_org_id ON knowledge_chunks (org_id);

CREATE TABLE postings (
    persona_id UUID NOT NULL,
    term VARCHAR NOT NULL,
    source_id UUID NOT NULL,
    segment INTEGER NOT NULL,
    org_id UUID NOT NULL,
    chunk_indexes INTEGER[] NOT NULL,
    frequencies INTEGER[] NOT NULL,
    lengths INTEGER[] NOT NULL,
    CONSTRAINT pk_postings PRIMARY KEY (persona_id, term, source_id, segment),
    CONSTRAINT fk_postings_source_id FOREIGN KEY(source_id) REFERENCES knowledge_sources (id) ON DELETE CASCADE,
    CONSTRAINT fk_postings_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE
);

CREATE INDEX ix_postings_source_id ON postings (source_id);

CREATE INDEX ix_postings_org_id ON postings (org_id);

CREATE TABLE turns (
    id UUID NOT NULL,
    org_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    question_id UUID NOT NULL,
    answer_id UUID,
    state VARCHAR DEFAULT 'running' NOT NULL,
    owner VARCHAR NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE NOT NULL,
    first_seq BIGINT NOT NULL,
    reserved_seqs INTEGER NOT NULL,
    finish_reason VARCHAR,
    usage JSONB,
    finished_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_turns PRIMARY KEY (id),
    CONSTRAINT ck_turns_state CHECK (state IN ('running', 'finished', 'cancelled', 'failed', 'lost')),
    CONSTRAINT fk_turns_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_turns_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT fk_turns_question_id FOREIGN KEY(question_id) REFERENCES messages (id) ON DELETE CASCADE,
    CONSTRAINT fk_turns_answer_id FOREIGN KEY(answer_id) REFERENCES messages (id) ON DELETE SET NULL
);

CREATE UNIQUE INDEX uq_turns_running ON turns (conversation_id) WHERE state = 'running';

CREATE INDEX ix_turns_leases ON turns (lease_until) WHERE state = 'running';

CREATE INDEX ix_turns_org_id ON turns (org_id);

CREATE INDEX ix_turns_conversation_id ON turns (conversation_id);

CREATE INDEX ix_turns_question_id ON turns (question_id);

CREATE INDEX ix_turns_answer_id ON turns (answer_id);

CREATE TABLE chunk_vectors (
    chunk_id UUID NOT NULL,
    window_index INTEGER NOT NULL,
    org_id UUID NOT NULL,
    persona_id UUID NOT NULL,
    source_id UUID NOT NULL,
    embedding HALFVEC(384) NOT NULL,
    CONSTRAINT pk_chunk_vectors PRIMARY KEY (chunk_id, window_index),
    CONSTRAINT fk_chunk_vectors_chunk_id FOREIGN KEY(chunk_id) REFERENCES knowledge_chunks (id) ON DELETE CASCADE,
    CONSTRAINT fk_chunk_vectors_org_id FOREIGN KEY(org_id) REFERENCES organizations (id) ON DELETE CASCADE,
    CONSTRAINT fk_chunk_vectors_source_id FOREIGN KEY(source_id) REFERENCES knowledge_sources (id) ON DELETE CASCADE
);

CREATE INDEX ix_chunk_vectors_embedding ON chunk_vectors USING hnsw (embedding halfvec_cosine_ops) WITH (ef_construction = 200);

CREATE INDEX ix_chunk_vectors_persona_id ON chunk_vectors (persona_id);

CREATE INDEX ix_chunk_vectors_source_id ON chunk_vectors (source_id);

CREATE INDEX ix_chunk_vectors_org_id ON chunk_vectors (org_id);

CREATE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER set_updated_at BEFORE UPDATE ON blobs FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON organizations FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON personas FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON knowledge_sources FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON turns FOR EACH ROW EXECUTE FUNCTION set_updated_at();
