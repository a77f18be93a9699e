-- How long ago a disconnect was written for one of the keys, or for everybody, if
-- it was in the time back; else null. The keys are those of a user and of a session,
-- and a session of the gateway's own that is older is void. Rows from before that
-- time need not be read: all transactions below the horizon of then had ended.
CREATE OR REPLACE FUNCTION notification_gateway.last_disconnect(keys text[], back interval) RETURNS interval LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT clock_timestamp() - max(l.inserted_at) FROM notification_gateway.log l
  WHERE l.user_key = ANY (last_disconnect.keys || '*'::text) AND l.disconnect IS NOT NULL
    AND l.inserted_at > clock_timestamp() - last_disconnect.back
    AND l.xid >= coalesce((SELECT h.oldest FROM notification_gateway.horizon h
      WHERE h.at <= clock_timestamp() - last_disconnect.back ORDER BY h.at DESC LIMIT 1), '0'::xid8)
$$;
