-- What a gateway writes need not reach a standby: a synchronous standby that
-- hangs must not stop gateways, too.
CREATE OR REPLACE FUNCTION notification_gateway.commit_locally() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('synchronous_commit') NOT IN ('off', 'local') THEN
    PERFORM set_config('synchronous_commit', 'local', true);
  END IF;
END $$;
