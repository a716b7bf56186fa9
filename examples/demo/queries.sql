-- The queries. Each returns one jsonb value; "brief" tells in a few words what is in it.

CREATE SCHEMA demo;

-- What the queries and the changes are about: the package that needs most others, and the two largest owners of files.
CREATE TABLE demo.subject AS
SELECT (SELECT d.package FROM dependencies d JOIN packages p ON p.name = d.package
        GROUP BY d.package ORDER BY count(*) DESC, d.package LIMIT 1) AS package,
       (SELECT owner_id FROM storage.objects GROUP BY owner_id ORDER BY sum((metadata->>'size')::bigint) DESC, owner_id LIMIT 1) AS owner,
       coalesce((SELECT owner_id FROM storage.objects GROUP BY owner_id ORDER BY sum((metadata->>'size')::bigint) DESC, owner_id LIMIT 1 OFFSET 1),
                'nobody') AS other_owner;

CREATE TABLE demo.queries (number int PRIMARY KEY, name text, tags text[], query text, brief text);

INSERT INTO demo.queries
SELECT number, name, array_replace(array_replace(tags, ':owner', 'owner:' || owner), ':other', 'owner:' || other_owner),
       replace(replace(replace(query, ':package', quote_literal(package)), ':owner', quote_literal(owner)),
               ':other', quote_literal(other_owner)), brief
FROM demo.subject, (VALUES
(1, 'packages that most others need, top 20', '{dependencies}'::text[],
 $$SELECT jsonb_agg(t) FROM (
       SELECT dependency AS package, count(DISTINCT package) AS needed_by
       FROM dependencies GROUP BY dependency ORDER BY needed_by DESC, dependency LIMIT 20) t$$,
 $$format('%s: needed by %s', a->0->>'package', a->0->>'needed_by')$$),

(2, 'all that one package needs, recursively', '{dependencies,packages}',
 $$WITH RECURSIVE needed AS (
       SELECT name FROM packages WHERE name = :package
       UNION
       SELECT d.dependency FROM needed n JOIN dependencies d ON d.package = n.name WHERE d.kind <> 'recommends')
   SELECT jsonb_build_object('package', :package, 'packages', count(*), 'kb', sum(p.installed_kb))
   FROM needed n JOIN packages p ON p.name = n.name$$,
 $$format('%s: %s packages, %s MB', a->>'package', a->>'packages', round((a->>'kb')::numeric / 1024, 1))$$),

(3, 'installed sizes by section', '{packages}',
 $$SELECT jsonb_agg(t) FROM (
       SELECT section, count(*) AS packages, sum(installed_kb) AS kb, max(installed_kb) AS largest_kb,
              percentile_cont(0.5) WITHIN GROUP (ORDER BY installed_kb) AS median_kb
       FROM packages GROUP BY section ORDER BY kb DESC, section) t$$,
 $$format('%s sections: %s MB', jsonb_array_length(a),
          (SELECT round(sum((section->>'kb')::numeric) / 1024, 1) FROM jsonb_array_elements(a) section))$$),

(4, 'maintainers on whom most packages rely', '{dependencies,packages}',
 $$SELECT jsonb_agg(t) FROM (
       SELECT p.maintainer, count(DISTINCT d.package) AS relying, count(DISTINCT p.name) AS packages
       FROM packages p JOIN dependencies d ON d.dependency = p.name
       GROUP BY p.maintainer ORDER BY relying DESC, p.maintainer LIMIT 20) t$$,
 $$format('%s: %s', split_part(a->0->>'maintainer', ' <', 1), a->0->>'relying')$$),

(5, 'text search in all descriptions', '{packages}',
 $$SELECT jsonb_build_object('matches', count(*), 'best', (jsonb_agg(t ORDER BY t.rank DESC, t.name))[0]) FROM (
       SELECT name, ts_rank(to_tsvector('english', description), query) AS rank
       FROM packages, websearch_to_tsquery('english', 'library or tool or data') query
       WHERE to_tsvector('english', description) @@ query) t$$,
 $$format('%s matches', a->>'matches')$$),

(6, 'storage by owner, top 20', '{objects}',
 $$SELECT jsonb_agg(t) FROM (
       SELECT owner_id, count(*) AS files, sum((metadata->>'size')::bigint) AS bytes
       FROM storage.objects GROUP BY owner_id ORDER BY bytes DESC, owner_id LIMIT 20) t$$,
 $$format('%s: %s bytes', a->0->>'owner_id', a->0->>'bytes')$$),

(7, 'storage by bucket', '{objects}',
 $$SELECT jsonb_agg(t) FROM (
       SELECT bucket_id, count(*) AS files, sum((metadata->>'size')::bigint) AS bytes
       FROM storage.objects GROUP BY bucket_id ORDER BY bytes DESC, bucket_id) t$$,
 $$format('%s buckets: %s bytes', jsonb_array_length(a),
          (SELECT sum((bucket->>'bytes')::bigint) FROM jsonb_array_elements(a) bucket))$$),

(8, 'usage of one owner, in all buckets', '{:owner}',
 $$SELECT jsonb_build_object('owner', :owner, 'files', sum(files), 'bytes', sum(bytes),
                             'buckets', coalesce(jsonb_object_agg(bucket_id, bytes), '{}'))
   FROM (SELECT bucket_id, count(*) AS files, sum((metadata->>'size')::bigint) AS bytes
         FROM storage.objects WHERE owner_id = :owner GROUP BY bucket_id) t$$,
 $$format('%s: %s files', a->>'owner', a->>'files')$$),

(9, 'usage of another owner', '{:other}',
 $$SELECT jsonb_build_object('owner', :other, 'files', sum(files), 'bytes', sum(bytes),
                             'buckets', coalesce(jsonb_object_agg(bucket_id, bytes), '{}'))
   FROM (SELECT bucket_id, count(*) AS files, sum((metadata->>'size')::bigint) AS bytes
         FROM storage.objects WHERE owner_id = :other GROUP BY bucket_id) t$$,
 $$format('%s: %s files', a->>'owner', a->>'files')$$)
) AS v (number, name, tags, query, brief);
