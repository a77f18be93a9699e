-- Tells every replica what became of a session: its cookie was cleared
-- ('signed_out') or replaced ('renewed …'). session is a keyed hash of the cookie's
-- token. The row stands under a key that is nobody's, so a gateway which knows
-- nothing of sessions ends no stream for it. disconnect() writes no item_id, so it
-- can forge none.
CREATE OR REPLACE FUNCTION notification_gateway.change_session(session text, user_key text, change text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF length(change_session.session) <> 32 OR length(change_session.change) > 100 OR change_session.user_key = '' THEN
    RAISE EXCEPTION 'a session is 32 hexadecimal digits, its user has a key, and a change is at most 100 bytes';
  END IF;
  INSERT INTO notification_gateway.log (user_key, item_id, disconnect)
  VALUES ('session:' || change_session.session, change_session.user_key, change_session.change);
  IF pg_notification_queue_usage() <= 0.25 THEN -- else the COMMIT may fail; the gateways' next polls find the row
    PERFORM pg_notify('notification_gateway', '');
  END IF;
END $$;
