-- What gateway check --canary has taken out of the log again.

SET LOCAL ROLE notification_gateway_owner;

-- Transactions whose log rows were taken back. A cursor may stand on the row of
-- one: it is known by this that the transaction was there.
CREATE TABLE notification_gateway.taken_back (
  xid xid8 PRIMARY KEY,
  inserted_at timestamptz NOT NULL
);

RESET ROLE;
