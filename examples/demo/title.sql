-- What was loaded, and where.

SELECT to_char((SELECT count(*) FROM packages), 'FM999,999,999') AS packages,
       to_char((SELECT count(*) FROM dependencies), 'FM999,999,999') AS dependencies,
       to_char((SELECT count(*) FROM storage.objects), 'FM999,999,999') AS files,
       to_char((SELECT count(DISTINCT owner_id) FROM storage.objects), 'FM999,999,999') AS owners \gset
\echo
\echo cache_ext: :packages packages with :dependencies dependencies, :files files of :owners owners
SELECT format('on PostgreSQL %s, cache_ext %s', current_setting('server_version'), extversion) FROM pg_extension WHERE extname = 'cache_ext';
