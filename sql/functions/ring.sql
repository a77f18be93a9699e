-- Rings the doorbell where a gateway may be asleep, as capture() describes it. The
-- transaction must have written its row before.
CREATE OR REPLACE FUNCTION notification_gateway.ring() RETURNS pg_catalog.void LANGUAGE plpgsql AS $$
BEGIN
  IF pg_catalog.pg_sequence_last_value('notification_gateway.bell') OPERATOR(pg_catalog.=) 0
    AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'off'
  THEN
    RETURN;
  END IF;
  -- What was delivered must not be erased by a crash.
  IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
    PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
  END IF;
  -- PREPARE TRANSACTION refuses a transaction that has notified: such a
  -- transaction sets this to off, and the gateway's next poll finds its rows.
  -- A full queue of notifications would fail the CRM's COMMIT, also one that other
  -- applications have filled. Past a quarter the gateway's next poll finds the rows.
  IF NOT (CASE WHEN coalesce(pg_catalog.current_setting('notification_gateway.doorbell', true), '') OPERATOR(pg_catalog.=) 'off' THEN true
    ELSE pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 1) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 2)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 3) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 4)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 5) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 6)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 7) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 8)
    END
    OR pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.25::pg_catalog.float8)
  THEN
    PERFORM pg_catalog.pg_notify('notification_gateway', '');
  END IF;
END $$;
