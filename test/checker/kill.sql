-- Ends a session wherever it is. Its client begins anew.
\set pause random(1, 200)
\set which random(0, 1000)
\sleep :pause ms
SELECT count(*) AS ended FROM (
    SELECT pg_terminate_backend(pid) FROM (
        SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS n, count(*) OVER () AS of FROM pg_stat_activity
        WHERE application_name = 'checker, to be killed' AND datname = current_database()) AS sessions
    WHERE n = :which % of) AS killed;
