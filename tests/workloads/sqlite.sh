# A database: 10,000 rows in transactions, an index, sums, and its own check of the file.
db=/tmp/check.db
runs sqlite-fill 60 sqlite3 $db "
    PRAGMA journal_mode = WAL;
    CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, n INTEGER);
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 10000)
        INSERT INTO t SELECT i, hex(i * 7919), i * i % 1000 FROM c;
    CREATE INDEX by_word ON t (word);"
# Each row a transaction of its own: locks, journal, fsync.
seq 10001 10200 | sed 's/.*/INSERT INTO t VALUES (&, "w", 1);/' > /tmp/rows.sql
runs sqlite-rows 60 sqlite3 $db ".read /tmp/rows.sql"
ok sqlite-count "$(sqlite3 $db 'SELECT count(*), sum(id) FROM t')" "10200|52025100"
ok sqlite-index "$(sqlite3 $db "SELECT id FROM t WHERE word = hex(5000 * 7919)")" 5000
ok sqlite-integrity "$(sqlite3 $db 'PRAGMA integrity_check')" ok
# Killed in the middle of a transaction: nothing of it is there afterwards.
mkfifo /tmp/orders
sqlite3 $db < /tmp/orders &
exec 3> /tmp/orders
echo "BEGIN; DELETE FROM t;" >&3
sleep 1
kill -9 $!
wait $! 2>/dev/null
exec 3>&-
ok sqlite-rollback "$(sqlite3 $db 'SELECT count(*) FROM t; PRAGMA integrity_check')" $'10200\nok'
rm -f /tmp/check.db* /tmp/orders /tmp/rows.sql
