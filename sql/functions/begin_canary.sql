-- Captures a notification that is nobody's, as the trigger of a table captures
-- those of users: the row goes into a table of this transaction alone. The
-- recipient has a prefix that no key of a user has, so that nothing is written
-- here which a user gets. Where the owner may make no temporary table record() is
-- what captures.
CREATE OR REPLACE FUNCTION notification_gateway.begin_canary(canary text, item text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  recipient CONSTANT text := 'notification_gateway_canary:' || begin_canary.canary;
BEGIN
  IF begin_canary.canary !~ '^[0-9a-f]{32}$' OR length(begin_canary.item) > 40 OR begin_canary.item = '' THEN
    RAISE EXCEPTION 'a canary is 32 hexadecimal digits, and its item at most 40 characters' USING ERRCODE = '22023';
  END IF;
  BEGIN
    CREATE TEMPORARY TABLE notification_gateway_canary (id text, user_id text) ON COMMIT DROP;
    CREATE TRIGGER notification_gateway_canary AFTER INSERT ON pg_temp.notification_gateway_canary
      FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture('user_id', 'id', '2', '1', 'usual');
    INSERT INTO pg_temp.notification_gateway_canary (id, user_id) VALUES (begin_canary.item, recipient);
  EXCEPTION WHEN insufficient_privilege THEN
    PERFORM notification_gateway.record(recipient, begin_canary.item, NULL::text);
  END;
END $$;
