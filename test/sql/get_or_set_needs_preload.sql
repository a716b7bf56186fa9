-- Without preloading nobody notices what others write: a result whose dependencies are to be found is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
SELECT get_or_set_cached_data('np:a', 'SELECT 1 AS a');
SELECT get_or_set_cached_data('np:a', 'SELECT 1 AS a', NULL, '{}');
SELECT get_cached_data('np:a');
