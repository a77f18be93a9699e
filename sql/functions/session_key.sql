-- The key of the gateway's own sessions, for the run-time role alone. To make all
-- sessions void: REFRESH MATERIALIZED VIEW notification_gateway.session_secret.
CREATE OR REPLACE FUNCTION notification_gateway.session_key() RETURNS bytea LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.key FROM notification_gateway.session_secret s
$$;
