-- The trigger function for everything that capture() is too plain for: updates,
-- deletes, conditions, due times, prefixes, recipients of several columns. What
-- attach writes into the trigger:
--
--   0  what the trigger's WHEN has found out of the row: it 'begins' to be a
--      notification (also by INSERT), it 'stays' one, it 'ceases' to be one; or
--      'truncate'
--   1, 2   names and attribute numbers of the columns that name the recipient
--   3, 4   name and attribute number of the ID column
--   5, 6   what stands before the ID and before the recipient
--   7, 8   names and attribute numbers of the columns whose change is told;
--          without a name none is
--   9, 10  name and attribute number of the column with the due time, or ''
--   11     'delete' where a DELETE is told, else ''
--   12     'usual' where the columns are user_id and id, else ''
--   13     'parted' where the table is partitioned, else it is left out
--
-- An UPDATE that moves a row to another partition is a DELETE and an INSERT. The
-- DELETE notes whose row it was and by which command of the transaction, as moved()
-- does; the INSERT of the same row by the same command is no new one.
--
-- search_path is not set, because that costs each row more than the rest of the
-- call. So every name and operator says its schema, and nothing is used whose
-- operator cannot be named, such as IS DISTINCT FROM or CASE x WHEN.
CREATE OR REPLACE FUNCTION notification_gateway.capture_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  users pg_catalog.text[];
  told pg_catalog.text[];
  names pg_catalog.text[];
  numbers pg_catalog.text[];
  old_row pg_catalog.jsonb;
  new_row pg_catalog.jsonb;
  old_user pg_catalog.text;
  old_item pg_catalog.text;
  new_user pg_catalog.text;
  new_item pg_catalog.text;
  was pg_catalog.bool := TG_OP OPERATOR(pg_catalog.<>) 'INSERT' AND TG_ARGV[0] OPERATOR(pg_catalog.<>) 'begins'; -- a delivered notification
  now_is pg_catalog.bool := TG_OP OPERATOR(pg_catalog.<>) 'DELETE' AND TG_ARGV[0] OPERATOR(pg_catalog.<>) 'ceases'; -- one to deliver
  same pg_catalog.bool := false;
  wrote pg_catalog.bool := false;
  at pg_catalog.timestamptz;
  noted pg_catalog.text;
  parted pg_catalog.bool := TG_NARGS OPERATOR(pg_catalog.>) 13;
  moved_here pg_catalog.bool := false;
BEGIN
  IF TG_ARGV[0] OPERATOR(pg_catalog.=) 'record' THEN RETURN NULL; END IF; -- it only says that the table feeds through record()
  IF TG_ARGV[0] OPERATOR(pg_catalog.=) 'truncate' THEN
    PERFORM notification_gateway.write_change('*', '', 'refresh');
    PERFORM notification_gateway.ring();
    RETURN NULL;
  END IF;

  -- Past 100 changes of a user in a transaction a refresh stands for all, so
  -- that marking 10,000 rows as read costs little more than without us.
  IF was AND now_is AND TG_ARGV[12] OPERATOR(pg_catalog.=) 'usual' AND TG_ARGV[9] OPERATOR(pg_catalog.=) '' THEN
    noted := pg_catalog.current_setting('notification_gateway.changes', true);
    IF pg_catalog.left(noted, 4) OPERATOR(pg_catalog.=) '0101' THEN
      BEGIN
        new_user := NEW.user_id;
        old_user := OLD.user_id;
        new_item := NEW.id;
        old_item := OLD.id;
        IF TG_ARGV[6] OPERATOR(pg_catalog.||) new_user OPERATOR(pg_catalog.=) pg_catalog.substr(noted, 5) AND old_user OPERATOR(pg_catalog.=) new_user
          AND old_item OPERATOR(pg_catalog.=) new_item
        THEN
          RETURN NULL;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- renamed or retyped since this session began
        NULL;
      END;
    END IF;
  END IF;

  users := TG_ARGV[1];
  told := TG_ARGV[7];
  names := users OPERATOR(pg_catalog.||) TG_ARGV[3] OPERATOR(pg_catalog.||) told;
  IF TG_ARGV[9] OPERATOR(pg_catalog.<>) '' THEN names := names OPERATOR(pg_catalog.||) TG_ARGV[9]; END IF;
  BEGIN
    old_row := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN pg_catalog.to_jsonb(OLD) END;
    new_row := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN pg_catalog.to_jsonb(NEW) END;
  EXCEPTION WHEN OTHERS THEN -- some column holds json that is no jsonb, such as \u0000
    old_row := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN '{}'::pg_catalog.jsonb END;
    new_row := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN '{}'::pg_catalog.jsonb END;
  END;
  FOR reading IN 1 .. 2 LOOP
    IF pg_catalog.cardinality(users) OPERATOR(pg_catalog.=) 1 THEN -- without the cost of a call
      old_user := coalesce(TG_ARGV[6] OPERATOR(pg_catalog.||) (old_row OPERATOR(pg_catalog.->>) users[1]), '');
      new_user := coalesce(TG_ARGV[6] OPERATOR(pg_catalog.||) (new_row OPERATOR(pg_catalog.->>) users[1]), '');
    ELSE
      old_user := notification_gateway.joined_key(old_row, users, TG_ARGV[6]);
      new_user := notification_gateway.joined_key(new_row, users, TG_ARGV[6]);
    END IF;
    old_item := coalesce(TG_ARGV[5] OPERATOR(pg_catalog.||) (old_row OPERATOR(pg_catalog.->>) TG_ARGV[3]), '');
    new_item := coalesce(TG_ARGV[5] OPERATOR(pg_catalog.||) (new_row OPERATOR(pg_catalog.->>) TG_ARGV[3]), '');
    -- Once more where a column was renamed, or is a char(n) with padding, or the row
    -- has no JSON form. ' :' is padding inside of a recipient of several columns.
    EXIT WHEN reading OPERATOR(pg_catalog.=) 2 OR coalesce(new_row, old_row) OPERATOR(pg_catalog.?&) names
      AND pg_catalog.strpos(pg_catalog.concat_ws(':', old_user, new_user, old_item, new_item, ''), ' :') OPERATOR(pg_catalog.=) 0;
    numbers := TG_ARGV[2]::pg_catalog.text[] OPERATOR(pg_catalog.||) TG_ARGV[4] OPERATOR(pg_catalog.||) TG_ARGV[8]::pg_catalog.text[];
    IF TG_ARGV[9] OPERATOR(pg_catalog.<>) '' THEN numbers := numbers OPERATOR(pg_catalog.||) TG_ARGV[10]; END IF;
    IF old_row IS NOT NULL THEN old_row := notification_gateway.row_values(OLD, TG_RELID, names, numbers); END IF;
    IF new_row IS NOT NULL THEN new_row := notification_gateway.row_values(NEW, TG_RELID, names, numbers); END IF;
  END LOOP;
  same := TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND old_user OPERATOR(pg_catalog.=) new_user AND old_item OPERATOR(pg_catalog.=) new_item;

  IF TG_ARGV[9] OPERATOR(pg_catalog.<>) '' THEN
    IF old_row IS NOT NULL THEN
      BEGIN
        DELETE FROM notification_gateway.due d WHERE d.item_id OPERATOR(pg_catalog.=) old_item AND d.user_key OPERATOR(pg_catalog.=) old_user;
        was := was AND NOT FOUND; -- a row that waited for its time was not delivered
      EXCEPTION WHEN serialization_failure THEN
        NULL; -- it came into the log after a REPEATABLE READ transaction began, which must not fail for that
      END;
    END IF;
    at := notification_gateway.due_time(new_row OPERATOR(pg_catalog.->>) TG_ARGV[9]);
    IF now_is AND at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN
      now_is := false;
      IF new_user OPERATOR(pg_catalog.<>) '' THEN
        INSERT INTO notification_gateway.due AS d (item_id, user_key, at) VALUES (new_item, new_user, at)
          ON CONFLICT ON CONSTRAINT due_pkey DO UPDATE SET at = EXCLUDED.at;
        wrote := true;
      END IF;
    END IF;
  END IF;

  IF parted AND TG_OP OPERATOR(pg_catalog.=) 'DELETE' AND was THEN
    PERFORM pg_catalog.set_config('notification_gateway.moved', pg_catalog.concat_ws(' ', old_user, old_item, OLD.cmax::pg_catalog.text), true);
  ELSIF parted AND TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
    moved_here := coalesce(pg_catalog.current_setting('notification_gateway.moved', true) OPERATOR(pg_catalog.=)
      pg_catalog.concat_ws(' ', new_user, new_item, NEW.cmin::pg_catalog.text), false);
  END IF;

  -- Whoever had the notification has it no more. Where only a due time is watched,
  -- a row that goes to another user is not looked at.
  IF was AND NOT (now_is AND (same OR pg_catalog.cardinality(told) OPERATOR(pg_catalog.=) 0))
    AND (TG_OP OPERATOR(pg_catalog.<>) 'DELETE' OR TG_ARGV[11] OPERATOR(pg_catalog.=) 'delete')
  THEN
    PERFORM notification_gateway.write_change(old_user, old_item, 'removed');
    wrote := true;
  END IF;
  IF now_is AND (NOT was OR NOT same AND pg_catalog.cardinality(told) OPERATOR(pg_catalog.>) 0) THEN
    IF NOT moved_here THEN
      INSERT INTO notification_gateway.log (user_key, item_id) VALUES (new_user, new_item);
    ELSE
      PERFORM pg_catalog.set_config('notification_gateway.moved', '', true);
      IF TG_ARGV[11] OPERATOR(pg_catalog.=) 'delete' THEN PERFORM notification_gateway.take_removal(new_user, new_item); END IF;
      IF pg_catalog.cardinality(told) OPERATOR(pg_catalog.>) 0 THEN PERFORM notification_gateway.write_change(new_user, new_item, 'updated'); END IF;
    END IF;
    wrote := true;
  ELSIF was AND now_is AND same THEN
    FOR i IN 1 .. pg_catalog.cardinality(told) LOOP
      IF NOT coalesce((old_row OPERATOR(pg_catalog.->) told[i]) OPERATOR(pg_catalog.=) (new_row OPERATOR(pg_catalog.->) told[i]), false) THEN
        PERFORM notification_gateway.write_change(new_user, new_item, 'updated');
        wrote := true;
        EXIT;
      END IF;
    END LOOP;
  END IF;
  IF wrote THEN PERFORM notification_gateway.ring(); END IF;
  RETURN NULL;
END $$;
