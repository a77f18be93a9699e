-- Called once for each connection of the feed: which installation this is, in
-- which life of the server. A dump that was restored elsewhere, or an upgraded
-- cluster, has foreign transaction IDs: its log is emptied and the installation
-- takes a new ID, so that old cursors are answered with a reset.
CREATE OR REPLACE FUNCTION notification_gateway.hello(OUT install_id uuid, OUT incarnation text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  server bigint := (SELECT system_identifier FROM pg_control_system());
  known bigint;
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: its snapshots hide running transactions' USING ERRCODE = '25006';
  END IF;
  SELECT i.id, i.system_identifier INTO install_id, known FROM notification_gateway.installation i;
  IF known IS DISTINCT FROM server THEN
    PERFORM FROM notification_gateway.installation FOR UPDATE;
    DELETE FROM notification_gateway.log;
    DELETE FROM notification_gateway.horizon;
    DELETE FROM notification_gateway.incarnation;
    UPDATE notification_gateway.installation i SET system_identifier = server, id = gen_random_uuid()
      WHERE i.system_identifier <> server;
    SELECT i.id INTO install_id FROM notification_gateway.installation i;
  END IF;
  INSERT INTO notification_gateway.incarnation DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT md5(i.id::text || pg_postmaster_start_time()::text) INTO incarnation FROM notification_gateway.incarnation i;
END $$;
