-- What the feed asks after hello(): the highest transaction that log and change have
-- or had rows of, and the lives of the server, the newest first.
CREATE OR REPLACE FUNCTION notification_gateway.history(OUT highest xid8, OUT lives json, OUT lives_since timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(
      (SELECT l.xid FROM notification_gateway.log l ORDER BY l.xid DESC LIMIT 1),
      (SELECT c.xid FROM notification_gateway.change c ORDER BY c.xid DESC LIMIT 1),
      (SELECT t.xid FROM notification_gateway.taken_back t ORDER BY t.xid DESC LIMIT 1),
      (SELECT (p.below::text::bigint - 1)::text::xid8 FROM notification_gateway.pruned p WHERE p.below > '0'), '0'::xid8),
    (SELECT json_agg(json_build_object('incarnation', left(l.incarnation, 8), 'unlogged', l.unlogged, 'timeline', l.timeline,
        'xid', l.xid::text, 'began_at', extract(epoch FROM l.began_at)::float8) ORDER BY l.xid DESC)
      FROM (SELECT * FROM notification_gateway.life ORDER BY xid DESC LIMIT 1000) l),
    (SELECT i.lives_since FROM notification_gateway.installation i)
$$;
