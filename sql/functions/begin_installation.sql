-- Called by hello() where the installation names another server, database or log:
-- the objects come from a dump, or by an upgrade of the cluster. The transaction IDs in the log mean nothing here: the
-- log is emptied, and the installation takes a new ID, so that old cursors are
-- answered with a reset.
CREATE OR REPLACE FUNCTION notification_gateway.begin_installation() RETURNS uuid LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  server bigint := (SELECT c.system_identifier FROM pg_control_system() c);
  place oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
  log_oid oid := 'notification_gateway.log'::regclass::oid;
  known notification_gateway.installation;
BEGIN
  SELECT * INTO known FROM notification_gateway.installation FOR UPDATE;
  IF known.system_identifier = server AND known.database = place AND known.log = log_oid THEN
    RETURN known.id; -- another gateway was first; what came into the log since then must stay
  END IF;
  BEGIN -- at once, however much there is
    LOCK TABLE notification_gateway.log, notification_gateway.change IN ACCESS EXCLUSIVE MODE NOWAIT;
    TRUNCATE notification_gateway.log, notification_gateway.change;
  EXCEPTION WHEN lock_not_available THEN -- a writer is there, and must not wait behind us
    DELETE FROM notification_gateway.log;
    DELETE FROM notification_gateway.change;
  END;
  DELETE FROM notification_gateway.horizon;
  DELETE FROM notification_gateway.incarnation;
  DELETE FROM notification_gateway.life;
  DELETE FROM notification_gateway.taken_back;
  UPDATE notification_gateway.pruned SET below = '0';
  UPDATE notification_gateway.installation SET system_identifier = server, database = place, log = log_oid, id = gen_random_uuid()
    RETURNING * INTO known;
  RETURN known.id;
END $$;
