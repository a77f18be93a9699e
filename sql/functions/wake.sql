-- Gives the lock of a slot up (0 is none), and spares writers the look at the
-- locks when no other gateway holds one.
CREATE OR REPLACE FUNCTION notification_gateway.wake(slot integer) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM notification_gateway.commit_locally();
  IF slot > 0 THEN PERFORM pg_advisory_unlock(1734440037, slot); END IF;
  IF pg_try_advisory_xact_lock(1734440037, 102) AND NOT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1734440037 AND objid BETWEEN 1 AND 8 AND mode = 'ExclusiveLock'
      AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
  THEN
    PERFORM setval('notification_gateway.bell', 0);
  END IF;
  RETURN true;
END $$;
