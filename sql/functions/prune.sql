-- Removes up to batch log rows of transactions that had ended before keep
-- began; one caller at a time, the others remove 0. Short transactions, and no
-- lock that an insert would wait for. open_for is how long the oldest
-- transaction that is running now has been seen to run.
CREATE OR REPLACE FUNCTION notification_gateway.prune(keep interval, batch integer, OUT removed integer, OUT open_for interval) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  snapshot pg_snapshot := pg_current_snapshot();
  moment timestamptz := clock_timestamp(); -- not before the snapshot
  known timestamptz;
BEGIN
  removed := 0;
  open_for := '0';
  IF pg_snapshot_xmin(snapshot) < pg_snapshot_xmax(snapshot) THEN
    SELECT moment - min(at) INTO open_for FROM notification_gateway.horizon WHERE oldest = pg_snapshot_xmin(snapshot);
    open_for := coalesce(open_for, '0');
  END IF;
  IF NOT pg_try_advisory_xact_lock(1734440037, 100) THEN RETURN; END IF;
  IF NOT EXISTS (SELECT FROM notification_gateway.horizon WHERE at > moment - least(keep / 100, interval '1 minute')) THEN
    INSERT INTO notification_gateway.horizon (at, oldest) VALUES (moment, pg_snapshot_xmin(snapshot)) ON CONFLICT DO NOTHING;
  END IF;
  SELECT max(at) INTO known FROM notification_gateway.horizon WHERE at <= moment - keep;
  IF known IS NULL THEN RETURN; END IF;
  DELETE FROM notification_gateway.horizon WHERE at < known;
  DELETE FROM notification_gateway.log l USING
    (SELECT xid, position FROM notification_gateway.log
     WHERE xid < (SELECT oldest FROM notification_gateway.horizon WHERE at = known) ORDER BY xid, position LIMIT batch) o
  WHERE l.xid = o.xid AND l.position = o.position;
  GET DIAGNOSTICS removed = ROW_COUNT;
END $$;
