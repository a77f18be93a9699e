-- Takes back that a row was removed, by capture_row(): the same command has
-- inserted it into another partition, so nobody is told. It counts no more among
-- the changes of the user, see write_change(). A refresh that has taken its place
-- stays.
CREATE OR REPLACE FUNCTION notification_gateway.take_removal(user_key pg_catalog.text, item_id pg_catalog.text)
RETURNS pg_catalog.void LANGUAGE plpgsql AS $$
DECLARE
  noted pg_catalog.text := coalesce(pg_catalog.current_setting('notification_gateway.changes', true), '');
BEGIN
  DELETE FROM notification_gateway.change c
    WHERE c.user_key OPERATOR(pg_catalog.=) take_removal.user_key AND c.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()
      AND c.item_id OPERATOR(pg_catalog.=) take_removal.item_id AND c.kind OPERATOR(pg_catalog.=) 'removed';
  IF FOUND AND pg_catalog.substr(noted, 5) OPERATOR(pg_catalog.=) user_key THEN
    PERFORM pg_catalog.set_config('notification_gateway.changes', '0000', true); -- nobody's: counted anew
  END IF;
END $$;
