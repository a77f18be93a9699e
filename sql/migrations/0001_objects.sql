-- The gateway's own tables: what is captured, and where it came from. The
-- functions over them are in functions/. The CRM's tables are not touched here;
-- attach puts the trigger on one of them.

DO $$ BEGIN -- the role is the cluster's, not the database's; CREATEROLE is needed only where it is missing
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'notification_gateway_owner') THEN
    CREATE ROLE notification_gateway_owner NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- a migration of another database was faster
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

RESET ROLE;
