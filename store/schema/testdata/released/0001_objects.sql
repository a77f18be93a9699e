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
  position bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 100), -- order inside a transaction only
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

-- Which transaction was the oldest still running, and when: all below it had
-- ended by then. Prune goes by this, not by the age of a row, which says when
-- its transaction inserted and not when it committed.
CREATE TABLE notification_gateway.horizon (
  at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
  oldest xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot())
);

-- The trigger function: a log row for each notification, and a ring of the
-- bell when somebody sleeps. Arguments: recipient column, ID column, and their
-- attribute numbers, which find the columns again when the CRM renamed them; a
-- fifth one says that the columns have the usual names.
--
-- The bell. A gateway that sleeps holds one of eight advisory locks
-- exclusively. Whoever gets all eight shared, and keeps them to the end of its
-- transaction, knows that nobody sleeps, and that nobody can fall asleep before
-- its rows are visible. Otherwise it notifies, once for each transaction
-- (Postgres folds equal notifications into one); a commit that notifies waits
-- for every other such commit, which is why it is not done always.
--
-- search_path is not set, because that costs each row more than the rest of
-- the call; so every name and operator below says its schema.
CREATE FUNCTION notification_gateway.capture() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  user_key pg_catalog.text;
  item_id pg_catalog.text;
  r pg_catalog.jsonb;
BEGIN
  IF TG_NARGS OPERATOR(pg_catalog.=) 5 THEN
    BEGIN -- without the cost of the row as JSON
      user_key := NEW.user_id;
      item_id := NEW.id;
    EXCEPTION WHEN OTHERS THEN -- renamed or retyped since this session began
      user_key := NULL;
    END;
  END IF;
  IF user_key IS NULL OR item_id IS NULL THEN
    r := pg_catalog.to_jsonb(NEW);
    user_key := r OPERATOR(pg_catalog.->>) TG_ARGV[0];
    item_id := r OPERATOR(pg_catalog.->>) TG_ARGV[1];
    IF user_key IS NULL OR item_id IS NULL THEN
      SELECT r OPERATOR(pg_catalog.->>) (SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attnum OPERATOR(pg_catalog.=) TG_ARGV[2]::pg_catalog.int2),
        r OPERATOR(pg_catalog.->>) (SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attnum OPERATOR(pg_catalog.=) TG_ARGV[3]::pg_catalog.int2)
        INTO user_key, item_id
        FROM (SELECT coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID) AS oid) t;
    END IF;
  END IF;
  INSERT INTO notification_gateway.log (user_key, item_id) VALUES (coalesce(user_key, ''), coalesce(item_id, ''));
  -- What was delivered must not be erased by a crash.
  IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
    PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
  END IF;
  -- PREPARE TRANSACTION refuses a transaction that has notified: such a
  -- transaction sets this to off, and the gateway's next poll finds its rows.
  IF NOT (CASE WHEN coalesce(pg_catalog.current_setting('notification_gateway.doorbell', true), '') OPERATOR(pg_catalog.=) 'off' THEN true
    ELSE pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 1) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 2)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 3) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 4)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 5) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 6)
      AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 7) AND pg_catalog.pg_try_advisory_xact_lock_shared(1734440037, 8)
    END)
  THEN
    PERFORM pg_catalog.pg_notify('notification_gateway', '');
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
    DELETE FROM notification_gateway.horizon;
    DELETE FROM notification_gateway.incarnation;
    UPDATE notification_gateway.installation i SET system_identifier = server, id = gen_random_uuid()
      WHERE i.system_identifier <> server;
    SELECT i.id INTO install_id FROM notification_gateway.installation i;
  END IF;
  INSERT INTO notification_gateway.incarnation DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT md5(i.id::text || pg_postmaster_start_time()::text) INTO incarnation FROM notification_gateway.incarnation i;
END $$;

-- The gateway's side of the bell: takes one of the eight locks, if it can, and
-- says which. Whoever has slept must poll once after this, then may wait.
CREATE FUNCTION notification_gateway.sleep() RETURNS integer LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT slot FROM generate_series(1, 8) slot WHERE pg_try_advisory_lock(1734440037, slot) LIMIT 1
$$;

CREATE FUNCTION notification_gateway.wake(slot integer) RETURNS boolean LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_advisory_unlock(1734440037, slot)
$$;

-- Removes up to batch log rows of transactions that had ended before keep
-- began; one caller at a time, the others remove 0. Short transactions, and no
-- lock that an insert would wait for. open_for is how long the oldest
-- transaction that is running now has been seen to run.
CREATE FUNCTION notification_gateway.prune(keep interval, batch integer, OUT removed integer, OUT open_for interval) LANGUAGE plpgsql
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

-- For mappings: a JSON time or text as RFC 3339 with Z.
CREATE FUNCTION notification_gateway.rfc3339(value jsonb) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT regexp_replace(to_char((value #>> '{}')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '') || 'Z'
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA notification_gateway FROM PUBLIC;
RESET ROLE;
