-- Links to storage objects: who is given one, what is in it, and what is wrong with a path.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
\getenv folder PG_ABS_SRCDIR
\set setup :folder '/supabase/setup.sql'
\set teardown :folder '/supabase/teardown.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE EXTENSION cache_ext;
INSERT INTO storage.buckets (id, name, public) VALUES ('photos', 'photos', true), ('two words', 'two words', false);
INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES
    ('photos', 'a/cat.png', 'u1'), ('photos', 'b/dog.png', 'u2'), ('two words', 'why? (1).txt', 'u1');
CREATE POLICY own_select ON storage.objects FOR SELECT TO authenticated USING (owner_id = (auth.jwt() ->> 'sub'));
CREATE POLICY own_insert ON storage.objects FOR INSERT TO authenticated
    WITH CHECK (owner_id = (auth.jwt() ->> 'sub') AND bucket_id = 'photos' AND storage.extension(name) = 'png');

-- What a token says, and whether it was signed with a secret: HMAC by its definition (RFC 2104), over the server's SHA-256.
CREATE FUNCTION xor_with(p_key bytea, p_byte int) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(decode(lpad(to_hex(CASE WHEN i < length(p_key) THEN get_byte(p_key, i) ELSE 0 END # p_byte), 2, '0'), 'hex'), '' ORDER BY i)
    FROM generate_series(0, 63) i
$$;
CREATE FUNCTION hmac_sha256(p_key bytea, p_data bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT sha256(xor_with(k, 92) || sha256(xor_with(k, 54) || p_data))
    FROM (SELECT CASE WHEN length(p_key) > 64 THEN sha256(p_key) ELSE p_key END AS k) s
$$;
-- Two of the known answers of RFC 4231.
SELECT hmac_sha256('Jefe', 'what do ya want for nothing?') = '\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843' AS known,
       hmac_sha256(decode(repeat('aa', 131), 'hex'), 'Test Using Larger Than Block-Size Key - Hash Key First')
           = '\x60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54' AS known_long_key;
CREATE FUNCTION from_base64url(p_text text) RETURNS bytea LANGUAGE sql AS $$
    SELECT decode(translate(p_text, '-_', '+/') || repeat('=', (4 - length(p_text) % 4) % 4), 'base64')
$$;
CREATE FUNCTION looked_into(p_link text, p_secret text, OUT path text, OUT header text, OUT claims text, OUT is_signed boolean)
LANGUAGE sql AS $$
    SELECT split_part(p_link, '?token=', 1), convert_from(from_base64url(split_part(t, '.', 1)), 'UTF8'),
           -- The times are checked apart.
           regexp_replace(convert_from(from_base64url(split_part(t, '.', 2)), 'UTF8'), '"iat":\d{10},"exp":\d{10}}$', '…'),
           from_base64url(split_part(t, '.', 3)) = hmac_sha256(convert_to(p_secret, 'UTF8'), convert_to(split_part(t, '.', 1) || '.' || split_part(t, '.', 2), 'UTF8'))
    FROM (SELECT split_part(p_link, '?token=', 2) AS t) s
$$;
CREATE FUNCTION claims_of(p_link text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT convert_from(from_base64url(split_part(split_part(p_link, '?token=', 2), '.', 2)), 'UTF8')::jsonb
$$;

-- Without a secret nothing is signed.
SELECT create_signed_storage_url('photos', 'a/cat.png', 60);
SELECT create_signed_upload_url('photos', 'a/new.png');
-- A view of that name that nobody vouches for is not read with the rights of the extension's owner.
CREATE ROLE regress_intruder;
CREATE SCHEMA vault AUTHORIZATION regress_intruder;
SET ROLE regress_intruder;
CREATE FUNCTION vault.steal() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', current_user; END $$;
CREATE VIEW vault.decrypted_secrets AS SELECT 'cache_ext_jwt_secret'::text AS name, vault.steal() AS decrypted_secret;
RESET ROLE;
SELECT create_signed_storage_url('photos', 'a/cat.png', 60);
DROP SCHEMA vault CASCADE;
DROP ROLE regress_intruder;

-- As Supabase Vault keeps it: callers of ours need no right to see it.
CREATE SCHEMA vault;
CREATE TABLE vault.kept (name text, decrypted_secret text);
CREATE VIEW vault.decrypted_secrets AS SELECT name, decrypted_secret FROM vault.kept;
INSERT INTO vault.kept VALUES ('other', 'wrong'), ('cache_ext_jwt_secret', 'super-secret-jwt-token-with-at-least-32-characters-long');
\set secret '''super-secret-jwt-token-with-at-least-32-characters-long'''

-- Who is above row security is given a link of any object that exists.
SELECT * FROM looked_into(create_signed_storage_url('photos', 'a/cat.png', 60), :secret);
SELECT * FROM looked_into(create_signed_storage_url('two words', 'why? (1).txt', 2147483647), :secret);
SELECT * FROM looked_into(create_signed_storage_url('photos', '//a/cat.png', 1), :secret);
SELECT (c ->> 'exp')::bigint - (c ->> 'iat')::bigint AS life, abs((c ->> 'iat')::bigint - extract(epoch FROM clock_timestamp())) < 60 AS now
FROM claims_of(create_signed_storage_url('photos', 'a/cat.png', 12345)) c;
SELECT create_signed_storage_url('photos', 'a/none.png', 60);
SELECT create_signed_storage_url('none', 'a/cat.png', 60);
SELECT create_signed_storage_url('photos', 'a/cat', 60);

-- A user is given one of what row security shows; what it hides is like what is not there.
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"u1","role":"authenticated"}';
SELECT path, claims, is_signed FROM looked_into(create_signed_storage_url('photos', 'a/cat.png', 60), :secret);
SELECT create_signed_storage_url('photos', 'b/dog.png', 60);
SELECT create_signed_storage_url('photos', 'b/none.png', 60);
BEGIN READ ONLY;
SELECT path FROM looked_into(create_signed_storage_url('photos', 'a/cat.png', 60), :secret);
ROLLBACK;
RESET request.jwt.claims;
SELECT create_signed_storage_url('photos', 'a/cat.png', 60);
SELECT * FROM vault.decrypted_secrets;
SET ROLE anon;
SELECT create_signed_storage_url('photos', 'a/cat.png', 60);
SELECT create_signed_upload_url('photos', 'a/cat.png');
SELECT get_public_storage_url('photos', 'a/cat.png');

-- Uploads: where the insert would be allowed.
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"u1","role":"authenticated"}';
SELECT * FROM looked_into(create_signed_upload_url('photos', 'a/new.png'), :secret);
SELECT (c ->> 'exp')::bigint - (c ->> 'iat')::bigint AS life FROM claims_of(create_signed_upload_url('photos', 'a/new.png')) c;
SELECT create_signed_upload_url('photos', 'a/new.exe');
SELECT create_signed_upload_url('two words', 'new.png');
SELECT create_signed_upload_url('none', 'new.png');
-- What is there is replaced only where it may be updated, and seen.
SELECT create_signed_upload_url('photos', 'a/cat.png');
SELECT create_signed_upload_url('photos', 'a/cat.png', true);
SELECT create_signed_upload_url('photos', 'b/dog.png', true);
SELECT claims, is_signed FROM looked_into(create_signed_upload_url('photos', 'a/new.png', p_upsert => true), :secret);
RESET ROLE;
CREATE POLICY own_update ON storage.objects FOR UPDATE TO authenticated USING (owner_id = (auth.jwt() ->> 'sub'));
SET ROLE authenticated;
SELECT claims, is_signed FROM looked_into(create_signed_upload_url('photos', 'a/cat.png', true), :secret);
SELECT create_signed_upload_url('photos', 'b/dog.png', true);
-- An owner that JSON has to escape, and one that is a UUID.
SET request.jwt.claims = '{"sub":"say \"hi\"\\\u0007 ü","role":"authenticated"}';
SELECT claims, is_signed FROM looked_into(create_signed_upload_url('photos', 'a/new.png'), :secret);
SET request.jwt.claims = '{"sub":"6f1c0c1e-50e3-4dc8-9b22-1ad1cbfe8f6d","role":"authenticated"}';
SELECT claims, is_signed FROM looked_into(create_signed_upload_url('photos', 'a/new.png'), :secret);
RESET ROLE;
CREATE POLICY by_uuid ON storage.objects FOR INSERT TO authenticated WITH CHECK (bucket_id = 'two words' AND owner = auth.uid());
SET ROLE authenticated;
SELECT claims FROM looked_into(create_signed_upload_url('two words', 'a/new.png'), :secret);
SET request.jwt.claims = 'none';
SELECT create_signed_upload_url('photos', 'a/new.png');
RESET request.jwt.claims;
-- It is tried, and leaves nothing; in a read-only transaction it cannot be.
RESET ROLE;
CREATE TABLE fired (name text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (NEW.name); PERFORM pg_notify('uploads', NEW.name); RETURN NULL; END $$;
CREATE TRIGGER noted AFTER INSERT ON storage.objects FOR EACH ROW EXECUTE FUNCTION noted();
LISTEN uploads;
SELECT claims FROM looked_into(create_signed_upload_url('two words', 'of nobody'), :secret);
UNLISTEN uploads;
SELECT (SELECT count(*) FROM storage.objects) AS objects, (SELECT count(*) FROM fired) AS fired;
BEGIN READ ONLY;
SELECT create_signed_upload_url('photos', 'a/new.png');
ROLLBACK;
-- An error of a trigger is the caller's answer, and the transaction can go on where a savepoint is.
CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'quota exceeded' USING ERRCODE = 'PT413'; END $$;
CREATE TRIGGER refuses BEFORE INSERT ON storage.objects FOR EACH ROW WHEN (NEW.name = 'too/much') EXECUTE FUNCTION refuses();
BEGIN;
SAVEPOINT s;
SELECT create_signed_upload_url('photos', 'too/much');
ROLLBACK TO s;
SELECT path FROM looked_into(create_signed_upload_url('photos', 'not/much'), :secret);
COMMIT;
-- A policy can tell the operations apart.
CREATE POLICY signing ON storage.objects FOR SELECT TO authenticated USING (name = 'b/dog.png' AND storage.operation() = 'storage.object.sign');
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"u1","role":"authenticated"}';
SELECT count(*) FROM storage.objects;
SELECT path FROM looked_into(create_signed_storage_url('photos', 'b/dog.png', 60), :secret);
SELECT storage.operation() AS none_left, count(*) FROM storage.objects;
RESET ROLE;
RESET request.jwt.claims;

-- Public links.
SELECT get_public_storage_url('photos', 'a/cat.png'), get_public_storage_url('two words', '/why? (1)+&=$@;:,''!*-_..txt');

-- What is no name of a bucket or an object.
SELECT get_public_storage_url('photos', NULL);
SELECT get_public_storage_url(NULL, 'a');
SELECT get_public_storage_url('photos', '');
SELECT get_public_storage_url('photos', '///');
SELECT get_public_storage_url('', 'a');
SELECT get_public_storage_url('a/b', 'c');
SELECT get_public_storage_url(repeat('x', 101), 'c');
SELECT get_public_storage_url('..', 'c');
SELECT get_public_storage_url('photos', 'a/../b');
SELECT get_public_storage_url('photos', '..');
SELECT get_public_storage_url('photos', 'a/.');
SELECT get_public_storage_url('photos', 'a%2Fb');
SELECT get_public_storage_url('photos', 'grüße.png');
SELECT get_public_storage_url('photos', 'say "hi"');
SELECT get_public_storage_url('photos', 'back\slash');
SELECT get_public_storage_url('photos', E'new\nline');
SELECT get_public_storage_url('photos', '#');
SELECT create_signed_storage_url('photos', 'a/../a/cat.png', 60);
SELECT create_signed_storage_url('photos', 'a/cat.png', 0);
SELECT create_signed_storage_url('photos', 'a/cat.png', -1);
SELECT create_signed_storage_url('photos', 'a/cat.png', NULL);
SELECT create_signed_upload_url('photos', 'a"b');
SELECT create_signed_upload_url('photos', 'a/b', NULL);

-- The secret is not shown to everybody.
SET ROLE authenticated;
SELECT count(*) AS shown FROM pg_settings WHERE name = 'cache_ext.jwt_secret';
RESET ROLE;
SET cache_ext.jwt_secret = 'x';

DROP TABLE fired;
DROP SCHEMA vault CASCADE;
DROP FUNCTION looked_into, claims_of, from_base64url, hmac_sha256, xor_with;
\set ECHO none
\i :teardown
\set ECHO all
-- Where there is no storage service.
SELECT create_signed_storage_url('photos', 'a/cat.png', 60);
SELECT create_signed_upload_url('photos', 'a/cat.png');
DROP FUNCTION noted, refuses;
DROP EXTENSION cache_ext;
-- An older one.
\set older 1
\set ECHO none
\i :setup
\set ECHO all
CREATE EXTENSION cache_ext;
CREATE SCHEMA vault;
CREATE VIEW vault.decrypted_secrets AS SELECT 'cache_ext_jwt_secret'::text AS name, 's'::text AS decrypted_secret;
INSERT INTO storage.buckets (id, name) VALUES ('b', 'b');
CREATE POLICY own ON storage.objects TO authenticated USING (owner = auth.uid());
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"6f1c0c1e-50e3-4dc8-9b22-1ad1cbfe8f6d"}';
SELECT left(create_signed_upload_url('b', 'x'), 30), left(create_signed_upload_url('b', 'x', true), 30);
RESET ROLE;
RESET request.jwt.claims;
DROP EXTENSION cache_ext;
DROP SCHEMA vault CASCADE;
\set ECHO none
\i :teardown
\set ECHO all
