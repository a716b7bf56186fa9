-- What telling Redis costs, and how soon it knows. A Redis server and clients are needed, so it is in bench/inside.

SELECT 1;
