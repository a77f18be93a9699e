-- Rows of transactions below this have been removed, as of the
-- statement that calls it.
CREATE OR REPLACE FUNCTION notification_gateway.pruned_below() RETURNS xid8 LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT below FROM notification_gateway.pruned
$$;
