-- What a cursor needs to be judged without a clock: which installation this is
-- also after a restore on the same server, which lives the database has had, and
-- how far the log has been emptied.

SET LOCAL ROLE notification_gateway_owner;

-- The system identifier says which server this is, the OIDs which database of it
-- and which log: a dump that is loaded again brings the identifier along, and gets
-- new OIDs. They are null where the objects come from another server, so that the
-- first gateway that connects notices.
ALTER TABLE notification_gateway.installation ADD COLUMN database oid, ADD COLUMN log oid,
  ADD COLUMN lives_since timestamptz NOT NULL DEFAULT clock_timestamp(); -- cursors of before it may be of a life that has no row
UPDATE notification_gateway.installation SET
  database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
  log = 'notification_gateway.log'::pg_catalog.regclass::pg_catalog.oid
WHERE system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() c);

-- One row for each life of the server: from its start to its end, or to a crash.
-- A life that has no row here, because a standby had not got it yet or a backup
-- was made before it, is not a part of this database's history.
CREATE TABLE notification_gateway.life (
  incarnation text PRIMARY KEY,                         -- as hello() says it
  unlogged uuid NOT NULL,                               -- notification_gateway.incarnation.id; a clean restart keeps it
  timeline integer NOT NULL,                            -- a promotion and a recovery to a point in time begin a new one
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),       -- a transaction of this life: later lives hand out higher IDs only
  began_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- when a gateway first saw it
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp()   -- when xid was noted
);

-- Rows of transactions below this have been removed from the log and from change.
CREATE TABLE notification_gateway.pruned (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  below xid8 NOT NULL DEFAULT '0'
);
INSERT INTO notification_gateway.pruned DEFAULT VALUES;

RESET ROLE;
