-- For triggers of the adopter's own: captures a notification, or with change
-- 'updated' or 'removed' what became of it, as capture() does once it knows whom
-- and what. A trigger function that calls it is SECURITY DEFINER, owned by a member
-- of notification_gateway_owner, with a pinned search_path: see sql/README.md.
CREATE OR REPLACE FUNCTION notification_gateway.record(user_key text, item_id text, change text DEFAULT NULL) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF change IS NULL THEN
    INSERT INTO notification_gateway.log (user_key, item_id) VALUES (coalesce(record.user_key, ''), coalesce(record.item_id, ''));
  ELSIF change IN ('updated', 'removed') THEN
    PERFORM notification_gateway.write_change(coalesce(record.user_key, ''), coalesce(record.item_id, ''), record.change);
  ELSE
    RAISE EXCEPTION 'change is %, and may be null, updated or removed', quote_literal(change) USING ERRCODE = '22023';
  END IF;
  PERFORM notification_gateway.ring();
END $$;
