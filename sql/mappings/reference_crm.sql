-- The mapping of the reference CRM: the views feed and identity over its
-- tables. A mapping of your own starts as a copy of this file.
--
-- Every column but the two keys is looked up by name when a row is read
-- (to_jsonb), so the CRM may add, drop, retype or rename its columns without
-- asking: a view that listed them would make its ALTER TABLE fail.

GRANT USAGE ON SCHEMA public TO notification_gateway_owner;
GRANT SELECT ON public.notifications, public.tasks, public.leads, public.task_reminders,
  public.auth_user, public.employees TO notification_gateway_owner;

SET LOCAL ROLE notification_gateway_owner;

DROP VIEW IF EXISTS notification_gateway.feed, notification_gateway.identity;
DROP FUNCTION IF EXISTS notification_gateway.reference_crm_data(jsonb); -- of an earlier version

-- What belongs to a notification of certain types, as further keys of its JSON.
-- A function, because a view would lock these tables for every notification.
CREATE OR REPLACE FUNCTION notification_gateway.reference_crm_related(n jsonb) RETURNS text LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  kind text := n->>'notification_type';
  r jsonb;
  parts text := '';
BEGIN
  IF kind IN ('task_assignment', 'task_reminder') THEN
    SELECT to_jsonb(t) INTO r FROM public.tasks t WHERE t.id = (n->>'task_id')::bigint;
    parts := ',"task_data":' || CASE WHEN r IS NULL THEN 'null' ELSE json_build_object(
      'id', r->'id', 'title', r->'title', 'description', r->'description', 'priority', r->'priority',
      'status', r->'status', 'due_date', r->'due_date', 'due_time', r->'due_time')::text END;
  END IF;
  IF kind = 'lead_assignment' THEN
    SELECT to_jsonb(l) INTO r FROM public.leads l WHERE l.id = (n->>'lead_id')::bigint;
    parts := ',"lead_data":' || CASE WHEN r IS NULL THEN 'null' ELSE json_build_object(
      'id', r->'id', 'full_name', btrim(concat_ws(' ', r->>'first_name', r->>'last_name')),
      'company_name', r->'company_name', 'email_address', r->'email_address',
      'contact_number', r->'contact_number', 'status', r->'status', 'lead_type', r->'lead_type')::text END;
  END IF;
  IF kind = 'task_reminder' THEN
    SELECT to_jsonb(m) INTO r FROM public.task_reminders m WHERE m.id = (n->>'reminder_id')::bigint;
    parts := parts || ',"reminder_data":' || CASE WHEN r IS NULL THEN 'null' ELSE json_build_object(
      'id', r->'id', 'remind_at', notification_gateway.rfc3339(r->'remind_at'), 'is_sent', r->'is_sent')::text END;
  END IF;
  RETURN parts;
END $$;

-- The notification as JSON. Type json, not jsonb, keeps the order of the keys.
-- OFFSET 0 lets each row become JSON once. The gateway's sessions are in UTC, so
-- that replace does what rfc3339 does, at a fifth of the cost. A time outside of
-- the years 0001 to 9999, such as infinity, has another form, and is null.
CREATE VIEW notification_gateway.feed AS
SELECT n.id, n.user_id AS user_key,
  (left(json_build_object('id', j->'id', 'user', j->'user_id', 'notification_type', j->'notification_type',
      'title', j->'title', 'message', j->'message', 'lead_id', j->'lead_id', 'task_id', j->'task_id',
      'reminder_id', j->'reminder_id', 'metadata', j->'metadata')::text, -1)
    || CASE WHEN j->>'notification_type' IN ('task_assignment', 'task_reminder', 'lead_assignment')
      THEN notification_gateway.reference_crm_related(j) ELSE '' END
    || ',' || substr(replace(json_build_object('is_read', j->'is_read',
      'read_at', CASE WHEN j->>'read_at' LIKE '____-__-__%' AND j->>'read_at' NOT LIKE '%BC' THEN j->'read_at' END,
      'created_at', CASE WHEN j->>'created_at' LIKE '____-__-__%' AND j->>'created_at' NOT LIKE '%BC' THEN j->'created_at' END,
      'updated_at', CASE WHEN j->>'updated_at' LIKE '____-__-__%' AND j->>'updated_at' NOT LIKE '%BC' THEN j->'updated_at' END
    )::text, '+00:00"', 'Z"'), 2))::json AS data,
  (j->>'created_at')::timestamptz AS created_at,
  (j->>'is_read')::boolean AS is_read
FROM public.notifications n CROSS JOIN LATERAL (SELECT to_jsonb(n) AS j OFFSET 0) j;

-- The active employee whose email is the user's username, else the user's email.
CREATE OR REPLACE FUNCTION notification_gateway.reference_crm_recipient(u jsonb) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT coalesce((u->>'is_active')::boolean, false) THEN RETURN NULL; END IF;
  RETURN coalesce(
    (SELECT e.id FROM public.employees e WHERE e.email = u->>'username' AND e.is_active),
    (SELECT e.id FROM public.employees e WHERE e.email = u->>'email' AND e.is_active));
END $$;

CREATE VIEW notification_gateway.identity AS
SELECT u.id AS subject, r.user_key
FROM public.auth_user u
CROSS JOIN LATERAL (SELECT notification_gateway.reference_crm_recipient(to_jsonb(u)) AS user_key) r
WHERE r.user_key IS NOT NULL;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA notification_gateway FROM PUBLIC;
RESET ROLE;
