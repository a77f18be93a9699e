-- How many changes of a user this transaction has written, 101 where it has
-- written a refresh. The plan that it keeps must not be one for a table that was
-- still empty. It is PL/pgSQL, which keeps its plan for the session.
CREATE OR REPLACE FUNCTION notification_gateway.changes_so_far(user_key text) RETURNS integer LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
  RETURN (SELECT CASE WHEN bool_or(c.kind = 'refresh'::text) THEN 101 ELSE count(*)::integer END
    FROM notification_gateway.change c WHERE c.user_key = changes_so_far.user_key AND c.xid = pg_current_xact_id());
END $$;
