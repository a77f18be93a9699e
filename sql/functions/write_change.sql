-- Writes down that a notification has changed: 'updated', 'removed', or 'refresh',
-- which says that the user's list is to be read again. One transaction has at most
-- 100 changes of a user; past that, one refresh stands for all of them.
--
-- A setting of the transaction holds how many there are, and of which user, so
-- that nothing is read for each row. It goes back with a savepoint, as the rows
-- do. Whoever sets it by hand hides changes of their own transaction alone.
CREATE OR REPLACE FUNCTION notification_gateway.write_change(user_key pg_catalog.text, item_id pg_catalog.text, kind pg_catalog.text)
RETURNS pg_catalog.void LANGUAGE plpgsql AS $$
DECLARE
  noted pg_catalog.text := coalesce(pg_catalog.current_setting('notification_gateway.changes', true), '');
  n pg_catalog.int4 := 0;
BEGIN
  IF user_key OPERATOR(pg_catalog.=) '' THEN RETURN; END IF;
  IF pg_catalog.substr(noted, 5) OPERATOR(pg_catalog.=) user_key THEN
    n := pg_catalog.left(noted, 4)::pg_catalog.int4;
    IF n OPERATOR(pg_catalog.>) 100 THEN RETURN; END IF;
  ELSIF noted OPERATOR(pg_catalog.<>) '' THEN -- another user came between
    n := notification_gateway.changes_so_far(user_key);
  END IF;
  IF n OPERATOR(pg_catalog.<) 100 AND kind OPERATOR(pg_catalog.<>) 'refresh' THEN
    INSERT INTO notification_gateway.change (user_key, item_id, kind) VALUES (write_change.user_key, write_change.item_id, write_change.kind);
    n := n OPERATOR(pg_catalog.+) 1;
  ELSIF n OPERATOR(pg_catalog.<=) 100 THEN
    DELETE FROM notification_gateway.change c
      WHERE c.user_key OPERATOR(pg_catalog.=) write_change.user_key AND c.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id();
    INSERT INTO notification_gateway.change (user_key, item_id, kind) VALUES (write_change.user_key, '', 'refresh');
    n := 101;
  END IF;
  PERFORM pg_catalog.set_config('notification_gateway.changes', pg_catalog.lpad(n::pg_catalog.text, 4, '0') OPERATOR(pg_catalog.||) user_key, true);
END $$;
