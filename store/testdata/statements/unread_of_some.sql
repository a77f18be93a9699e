SELECT coalesce(extract(epoch FROM created_at)::double precision, 'Infinity'::double precision)::text || ' ' || id::text
FROM notification_gateway.feed WHERE user_key = $1::text::bigint AND id = ANY ($2::text[]::bigint[]) AND NOT is_read
