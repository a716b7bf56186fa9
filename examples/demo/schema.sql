-- The demo's tables: a package index, and files in the shape of Supabase's storage.objects.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE SCHEMA storage;

CREATE TABLE packages (
    name text NOT NULL,
    version text,
    section text NOT NULL,
    maintainer text NOT NULL,
    installed_kb bigint NOT NULL,
    description text NOT NULL
);

CREATE TABLE dependencies (
    package text NOT NULL,
    kind text NOT NULL,
    dependency text NOT NULL
);

CREATE TABLE storage.buckets (
    id text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE storage.objects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    bucket_id text,
    name text,
    owner uuid,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    last_accessed_at timestamptz DEFAULT now(),
    metadata jsonb,
    path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED,
    version text,
    owner_id text,
    user_metadata jsonb
);
