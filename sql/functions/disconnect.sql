-- Ends a user's streams on every replica. It is for the CRM: whoever may call it
-- is for the adopter to say by a GRANT.
CREATE OR REPLACE FUNCTION notification_gateway.disconnect(user_key text, reason text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO notification_gateway.log (user_key, item_id, disconnect)
  VALUES (disconnect.user_key, '', coalesce(nullif(left(disconnect.reason, 200), ''), 'disconnected'));
  IF pg_notification_queue_usage() <= 0.25 THEN -- else the CRM's COMMIT may fail; the gateway's next poll finds the row
    PERFORM pg_notify('notification_gateway', '');
  END IF;
END $$;
