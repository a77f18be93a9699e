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

-- The notification as JSON. Type json, not jsonb, keeps the order of the keys.
CREATE OR REPLACE FUNCTION notification_gateway.reference_crm_data(n jsonb) RETURNS json LANGUAGE plpgsql STABLE
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
  RETURN (
    left(json_build_object('id', n->'id', 'user', n->'user_id', 'notification_type', n->'notification_type',
      'title', n->'title', 'message', n->'message', 'lead_id', n->'lead_id', 'task_id', n->'task_id',
      'reminder_id', n->'reminder_id', 'metadata', n->'metadata')::text, -1)
    || parts || ',' ||
    substr(json_build_object('is_read', n->'is_read', 'read_at', notification_gateway.rfc3339(n->'read_at'),
      'created_at', notification_gateway.rfc3339(n->'created_at'),
      'updated_at', notification_gateway.rfc3339(n->'updated_at'))::text, 2))::json;
END $$;

CREATE VIEW notification_gateway.feed AS
SELECT n.id, n.user_id AS user_key,
  notification_gateway.reference_crm_data(to_jsonb(n)) AS data,
  (to_jsonb(n)->>'created_at')::timestamptz AS created_at,
  (to_jsonb(n)->>'is_read')::boolean AS is_read
FROM public.notifications n;

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
