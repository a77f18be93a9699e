-- Makes writers look at the locks of the doorbell. False where it cannot be done
-- now.
--
-- Lock 102 keeps a gateway from falling asleep while another one says that all
-- are awake. Nobody waits for the lock, because any role may take it: without it
-- a gateway stays awake, and the sequence at 1.
CREATE OR REPLACE FUNCTION notification_gateway.mind() RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM notification_gateway.commit_locally();
  IF NOT pg_try_advisory_xact_lock(1734440037, 102) THEN RETURN false; END IF;
  PERFORM setval('notification_gateway.bell', 1);
  RETURN true;
END $$;
