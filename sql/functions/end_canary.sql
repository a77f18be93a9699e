-- Takes a canary out of the log again, and those of an hour ago that nobody took
-- back. What was removed from the log stays known by its transaction for as long as
-- a cursor may stand on it.
CREATE OR REPLACE FUNCTION notification_gateway.end_canary(canary text) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  removed integer;
BEGIN
  WITH gone AS (
    DELETE FROM notification_gateway.log l
      WHERE l.user_key = 'notification_gateway_canary:' || end_canary.canary
        OR l.user_key >= 'notification_gateway_canary:' COLLATE "C" AND l.user_key < 'notification_gateway_canary;' COLLATE "C" AND l.inserted_at < clock_timestamp() - interval '1 hour'
      RETURNING l.xid, l.inserted_at
  )
  INSERT INTO notification_gateway.taken_back (xid, inserted_at) SELECT g.xid, min(g.inserted_at) FROM gone g GROUP BY g.xid ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS removed = ROW_COUNT;
  DELETE FROM notification_gateway.taken_back t USING notification_gateway.pruned p WHERE t.xid < p.below;
  RETURN removed;
END $$;
