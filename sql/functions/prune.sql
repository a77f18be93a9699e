-- Removes up to batch rows of the log and of change, of transactions that had ended before keep
-- began; one caller at a time, the others remove 0. Short transactions, and no
-- lock that an insert would wait for. open_for is how long the oldest
-- transaction that is running now has been seen to run.
--
-- Its plans depend on batch and on where the log begins, so they are made for
-- each call: a generic plan would read the whole log for each batch.
--
-- The lock is that of a row, which nobody but the owner of the objects can take.
CREATE OR REPLACE FUNCTION notification_gateway.prune(keep interval, batch integer, OUT removed integer, OUT open_for interval) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
  snapshot pg_snapshot := pg_current_snapshot();
  moment timestamptz := clock_timestamp(); -- not before the snapshot
  known timestamptz;
  first xid8; -- the log has nothing below it
  oldest xid8;
  last record;
  top xid8; -- of the rows that were removed
BEGIN
  removed := 0;
  open_for := '0';
  PERFORM notification_gateway.commit_locally();
  IF pg_snapshot_xmin(snapshot) < pg_snapshot_xmax(snapshot) THEN
    SELECT moment - min(h.at) INTO open_for FROM notification_gateway.horizon h WHERE h.oldest = pg_snapshot_xmin(snapshot) AND h.at <= moment;
    open_for := coalesce(open_for, '0');
  END IF;
  SELECT CASE WHEN p.below > '0' THEN (p.below::text::bigint - 1)::text::xid8 ELSE p.below END INTO first
    FROM notification_gateway.pruned p FOR UPDATE SKIP LOCKED;
  IF first IS NULL THEN RETURN; END IF;
  -- The clock was ahead for a while: what was noted then says nothing of now.
  DELETE FROM notification_gateway.horizon h WHERE h.at > moment;
  IF NOT EXISTS (SELECT FROM notification_gateway.horizon h WHERE h.at > moment - least(keep / 100, interval '1 minute')) THEN
    INSERT INTO notification_gateway.horizon (at, oldest) VALUES (moment, pg_snapshot_xmin(snapshot)) ON CONFLICT DO NOTHING;
    UPDATE notification_gateway.life l SET xid = pg_current_xact_id(), seen_at = moment
      WHERE l.incarnation = (SELECT md5(i.id::text || pg_postmaster_start_time()::text) FROM notification_gateway.incarnation i);
    DELETE FROM notification_gateway.life l WHERE l.seen_at < moment - keep;
  END IF;
  SELECT max(h.at) INTO known FROM notification_gateway.horizon h WHERE h.at <= moment - keep;
  IF known IS NULL THEN RETURN; END IF;
  DELETE FROM notification_gateway.horizon h WHERE h.at < known;
  SELECT h.oldest INTO oldest FROM notification_gateway.horizon h WHERE h.at = known;
  SELECT l.xid, l.position INTO last FROM notification_gateway.log l WHERE l.xid >= first AND l.xid < oldest
    ORDER BY l.xid, l.position OFFSET greatest(batch - 1, 0) LIMIT least(batch, 1);
  IF last.xid IS NULL AND batch > 0 THEN -- fewer are left
    SELECT l.xid, l.position INTO last FROM notification_gateway.log l WHERE l.xid >= first AND l.xid < oldest
      ORDER BY l.xid DESC, l.position DESC LIMIT 1;
  END IF;
  IF last.xid IS NOT NULL THEN
    DELETE FROM notification_gateway.log l WHERE l.xid >= first AND (l.xid, l.position) <= (last.xid, last.position);
    GET DIAGNOSTICS removed = ROW_COUNT;
    top := last.xid;
  END IF;
  IF removed < batch THEN -- the log is done; changes go by the same rule
    WITH gone AS (
      DELETE FROM notification_gateway.change c USING (SELECT o.xid, o.position FROM notification_gateway.change o
          WHERE o.xid < oldest ORDER BY o.xid, o.position LIMIT batch - removed) o
        WHERE c.xid = o.xid AND c.position = o.position RETURNING c.xid)
    SELECT greatest(top, (SELECT g.xid FROM gone g ORDER BY g.xid DESC LIMIT 1)), removed + (SELECT count(*) FROM gone)::integer
      INTO top, removed;
  END IF;
  UPDATE notification_gateway.pruned SET below = (top::text::bigint + 1)::text::xid8 WHERE top IS NOT NULL;
END $$;
