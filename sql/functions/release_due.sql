-- Moves notifications whose time has come into the log, the oldest first and at
-- most so many, and returns how many there were and the next due time, null where
-- none waits. Replicas may call it at once: a row that another transaction holds
-- is left to it.
CREATE OR REPLACE FUNCTION notification_gateway.release_due(rows integer, OUT released integer, OUT next_due timestamptz) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
  WITH ripe AS (
    SELECT d.item_id, d.user_key FROM notification_gateway.due d WHERE d.at <= clock_timestamp() ORDER BY d.at LIMIT rows FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM notification_gateway.due d USING ripe r WHERE d.item_id = r.item_id AND d.user_key = r.user_key RETURNING d.item_id, d.user_key, d.at
  )
  INSERT INTO notification_gateway.log (user_key, item_id) SELECT g.user_key, g.item_id FROM gone g ORDER BY g.at, g.item_id;
  GET DIAGNOSTICS released = ROW_COUNT;
  IF released > 0 THEN PERFORM notification_gateway.ring(); END IF;
  SELECT min(d.at) INTO next_due FROM notification_gateway.due d;
END $$;
