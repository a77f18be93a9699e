-- Whether a row of a transaction, which was there at a moment, is there still: in
-- the log or among the changes, or it has been pruned or taken back since.
CREATE OR REPLACE FUNCTION notification_gateway.kept(claimed xid8, by timestamptz) RETURNS boolean LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM notification_gateway.pruned p WHERE claimed < p.below)
    OR EXISTS (SELECT FROM notification_gateway.log l WHERE l.xid = claimed AND l.inserted_at <= by)
    OR EXISTS (SELECT FROM notification_gateway.change c WHERE c.xid = claimed AND c.inserted_at <= by)
    OR EXISTS (SELECT FROM notification_gateway.taken_back t WHERE t.xid = claimed AND t.inserted_at <= by)
$$;
