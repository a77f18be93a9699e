-- Called once for each connection: which installation this is, in which life of
-- the server. Gateways of before migration 5 call it too.
CREATE OR REPLACE FUNCTION notification_gateway.hello(OUT install_id uuid, OUT incarnation text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  server bigint := (SELECT c.system_identifier FROM pg_control_system() c);
  place oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
  log_oid oid := 'notification_gateway.log'::regclass::oid;
  unlogged uuid;
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: its snapshots hide running transactions' USING ERRCODE = '25006';
  END IF;
  PERFORM notification_gateway.commit_locally();
  SELECT i.id INTO install_id FROM notification_gateway.installation i
    WHERE i.system_identifier = server AND i.database = place AND i.log = log_oid;
  IF install_id IS NULL THEN
    install_id := notification_gateway.begin_installation();
  END IF;
  SELECT i.id INTO unlogged FROM notification_gateway.incarnation i;
  IF unlogged IS NULL THEN
    INSERT INTO notification_gateway.incarnation DEFAULT VALUES ON CONFLICT DO NOTHING;
    SELECT i.id INTO unlogged FROM notification_gateway.incarnation i;
  END IF;
  incarnation := md5(unlogged::text || pg_postmaster_start_time()::text);
  IF NOT EXISTS (SELECT FROM notification_gateway.life l WHERE l.incarnation = hello.incarnation) THEN
    INSERT INTO notification_gateway.life (incarnation, unlogged, timeline) VALUES (incarnation, unlogged,
      ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer) ON CONFLICT DO NOTHING;
  END IF;
END $$;
