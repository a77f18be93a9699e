-- Takes one of the eight locks of the doorbell, if it can, and says which; NULL
-- where it cannot. It makes writers look at the locks. A gateway that has called
-- it must poll once after it, and again as long as a transaction runs that ran
-- at that poll; then it may wait to be notified.
CREATE OR REPLACE FUNCTION notification_gateway.sleep() RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Writers stop notifying when a quarter of the queue of notifications is in use.
  IF pg_notification_queue_usage() > 0.2 THEN RETURN NULL; END IF;
  IF NOT notification_gateway.mind() THEN RETURN NULL; END IF;
  FOR slot IN 1..8 LOOP
    IF pg_try_advisory_lock(1734440037, slot) THEN RETURN slot; END IF;
  END LOOP;
  RETURN NULL;
END $$;
