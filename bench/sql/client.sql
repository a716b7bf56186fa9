-- The entries that a client reads over the wire. What it is measured by is in bench/inside, since a client is needed.

SELECT count(set_cached_data(n::text, value, '1 day', tags)) FROM bench.item;
