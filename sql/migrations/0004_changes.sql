-- What happens to notifications after they were captured, and those whose time
-- is still to come.

SET LOCAL ROLE notification_gateway_owner;

-- Changes of captured rows. They stand beside the log, because a gateway that
-- does not know of changes would take a log row for a notification. Their
-- positions come from the log's sequence, so that one order holds inside a
-- transaction.
CREATE TABLE notification_gateway.change (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  position bigint NOT NULL DEFAULT nextval('notification_gateway.log_position_seq'),
  inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  user_key text COLLATE "C" NOT NULL,                     -- '*' where the change is everybody's
  item_id text COLLATE "C" NOT NULL,                      -- '' in a refresh
  kind text NOT NULL CHECK (kind IN ('updated', 'removed', 'refresh')),
  PRIMARY KEY (xid, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX change_user ON notification_gateway.change (user_key, xid);

-- Notifications whose time lies ahead. release_due() moves them into the log.
CREATE TABLE notification_gateway.due (
  item_id text COLLATE "C" NOT NULL,
  user_key text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (item_id, user_key)
);
CREATE INDEX due_at ON notification_gateway.due (at);

RESET ROLE;
