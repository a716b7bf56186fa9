-- What a Supabase server has before an extension is added, as far as storage goes: roles, schemas, grants, default privileges, and the tables of
-- the storage service in their shape. To be run by a superuser with psql:
--
--   \i setup.sql                     an installation of today
--   \set older 1  \i setup.sql       one from before owner_id and what came after it
--
-- Roles belong to the whole cluster, so one that is there is left as it is. Where the superuser is called something else than postgres (initdb -U
-- supabase_admin) postgres is the plain role that it is on the real server; where it is the superuser, what depends on its being none is left out.
-- teardown.sql takes all of it away again.
\ir roles.sql
\ir schemas.sql
\ir storage.sql
\if :{?older}
\ir storage_older.sql
\endif
