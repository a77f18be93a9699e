-- The gateway's own objects: what is captured, and what the gateway may do.
-- The CRM's tables are not touched here; attach puts the trigger on one of them.

DO $$ BEGIN
  CREATE ROLE notification_gateway_owner NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- roles are the cluster's, not the database's
END $$;

DO $$ BEGIN
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('GRANT notification_gateway_owner TO %I', current_user);
  END IF;
EXCEPTION WHEN insufficient_privilege THEN NULL; -- SET ROLE below says it better
END $$;

CREATE SCHEMA notification_gateway AUTHORIZATION notification_gateway_owner;
SET LOCAL ROLE notification_gateway_owner;

CREATE TABLE notification_gateway.migration (
  version integer PRIMARY KEY,
  name text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- What was captured. A row holds no payload: the CRM's own row is the payload.
CREATE TABLE notification_gateway.log (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),         -- always the top-level transaction's
  position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,  -- order inside a batch only
  inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  user_key text COLLATE "C" NOT NULL,                     -- '' when the CRM's column was null
  item_id text COLLATE "C" NOT NULL,
  disconnect text,                                        -- not null: no notification, but end this user's streams
  PRIMARY KEY (xid, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX log_user ON notification_gateway.log (user_key, xid);

CREATE TABLE notification_gateway.installation (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  system_identifier bigint NOT NULL
);
INSERT INTO notification_gateway.installation (system_identifier)
  SELECT system_identifier FROM pg_control_system();

-- Crash recovery and promotion empty an unlogged table, so its row names one
-- life of the server: transaction IDs prove nothing across two of them.
CREATE UNLOGGED TABLE notification_gateway.incarnation (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id uuid NOT NULL DEFAULT gen_random_uuid()
);

-- The trigger function: one log row for each notification, one ring for each
-- transaction (Postgres folds equal notifications of a transaction into one).
-- Arguments: recipient column, ID column, and their attribute numbers, which
-- find the columns again when the CRM has renamed them.
CREATE FUNCTION notification_gateway.capture() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  r jsonb := to_jsonb(NEW);
  user_column text := TG_ARGV[0];
  id_column text := TG_ARGV[1];
BEGIN
  IF NOT r ? user_column THEN
    SELECT attname INTO user_column FROM pg_attribute WHERE attrelid = TG_RELID AND attnum = TG_ARGV[2]::int2;
  END IF;
  IF NOT r ? id_column THEN
    SELECT attname INTO id_column FROM pg_attribute WHERE attrelid = TG_RELID AND attnum = TG_ARGV[3]::int2;
  END IF;
  INSERT INTO notification_gateway.log (user_key, item_id)
  VALUES (coalesce(r->>user_column, ''), coalesce(r->>id_column, ''));
  -- What was delivered must not be erased by a crash.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'local', true);
  END IF;
  -- PREPARE TRANSACTION refuses a transaction that has notified: such a
  -- transaction sets this to off, and the gateway's next poll finds its rows.
  IF current_setting('notification_gateway.doorbell', true) IS DISTINCT FROM 'off' THEN
    PERFORM pg_notify('notification_gateway', '');
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION notification_gateway.disconnect(user_key text, reason text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO notification_gateway.log (user_key, item_id, disconnect)
  VALUES (disconnect.user_key, '', coalesce(nullif(left(disconnect.reason, 200), ''), 'disconnected'));
  PERFORM pg_notify('notification_gateway', '');
END $$;

-- Called once for each connection of the feed: which installation this is, in
-- which life of the server. A dump that was restored elsewhere, or an upgraded
-- cluster, has foreign transaction IDs: its log is emptied and the installation
-- takes a new ID, so that old cursors are answered with a reset.
CREATE FUNCTION notification_gateway.hello(OUT install_id uuid, OUT incarnation text) LANGUAGE plpgsql
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
    DELETE FROM notification_gateway.incarnation;
    UPDATE notification_gateway.installation i SET system_identifier = server, id = gen_random_uuid()
      WHERE i.system_identifier <> server;
    SELECT i.id INTO install_id FROM notification_gateway.installation i;
  END IF;
  INSERT INTO notification_gateway.incarnation DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT md5(i.id::text || pg_postmaster_start_time()::text) INTO incarnation FROM notification_gateway.incarnation i;
END $$;

-- Removes up to batch log rows older than keep; one caller at a time, the
-- others get 0. Short transactions, and no lock that an insert would wait for.
CREATE FUNCTION notification_gateway.prune(keep interval, batch integer) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(1734440037, 100) THEN RETURN 0; END IF;
  DELETE FROM notification_gateway.log l USING
    (SELECT xid, position FROM notification_gateway.log ORDER BY xid, position LIMIT batch) o
  WHERE l.xid = o.xid AND l.position = o.position AND l.inserted_at < now() - keep;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$;

-- For mappings: a JSON time or text as RFC 3339 with Z.
CREATE FUNCTION notification_gateway.rfc3339(value jsonb) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT regexp_replace(to_char((value #>> '{}')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '') || 'Z'
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA notification_gateway FROM PUBLIC;
RESET ROLE;
