-- The trigger function: a log row for each notification, and a ring of the
-- doorbell when a gateway sleeps. Arguments: recipient column, ID column, and
-- their attribute numbers, which find the columns again when the CRM has renamed
-- them. A fifth argument says that the columns have the usual names, a sixth that
-- the table is partitioned.
--
-- The doorbell. A gateway that sleeps holds one of eight advisory locks
-- exclusively. A transaction that gets all eight shared, and keeps them to its
-- end, knows that no gateway sleeps, and that none can fall asleep before the
-- transaction's rows are visible. Otherwise the transaction notifies, once
-- (Postgres folds equal notifications into one). It does not always notify,
-- because a commit that notifies waits for every other such commit.
--
-- The eight locks cost as much as the log row does, so they are looked at only
-- while the sequence bell says 1. A transaction that has read 0 holds nothing. A
-- gateway that falls asleep after that waits for the end of the transaction. It
-- can, because by then the log row has given the transaction an ID, by which
-- snapshots know it: the row must be inserted before the sequence is read.
--
-- search_path is not set, because that costs each row more than the rest of
-- the call; so every name and operator below says its schema.
CREATE OR REPLACE FUNCTION notification_gateway.capture() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  usual pg_catalog.bool;
  user_key pg_catalog.text;
  item_id pg_catalog.text;
  r pg_catalog.jsonb;
  value pg_catalog.text;
  attribute pg_catalog.record;
BEGIN
  IF TG_NARGS OPERATOR(pg_catalog.>=) 5 THEN
    IF TG_NARGS OPERATOR(pg_catalog.=) 6 AND coalesce(pg_catalog.current_setting('notification_gateway.moved', true), '') OPERATOR(pg_catalog.<>) '' THEN
      BEGIN
        IF pg_catalog.current_setting('notification_gateway.moved', true) OPERATOR(pg_catalog.=)
          ((pg_catalog.to_jsonb(NEW) OPERATOR(pg_catalog.->>) TG_ARGV[1]) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) NEW.cmin::pg_catalog.text)
        THEN
          PERFORM pg_catalog.set_config('notification_gateway.moved', '', true);
          RETURN NULL; -- it has moved here from another partition, and is no new one
        END IF;
      EXCEPTION WHEN OTHERS THEN -- some column holds json that is no jsonb
        NULL;
      END;
    END IF;
    BEGIN
      usual := TG_ARGV[4] OPERATOR(pg_catalog.=) 'usual' AND NEW.user_id IS NOT NULL AND NEW.id IS NOT NULL;
    EXCEPTION WHEN OTHERS THEN -- renamed or retyped since this session began
      usual := false;
    END;
  END IF;
  IF usual THEN -- without the cost of the row as JSON
    INSERT INTO notification_gateway.log (user_key, item_id) VALUES (NEW.user_id, NEW.id);
  ELSE
    BEGIN
      r := pg_catalog.to_jsonb(NEW);
      user_key := r OPERATOR(pg_catalog.->>) TG_ARGV[0];
      item_id := r OPERATOR(pg_catalog.->>) TG_ARGV[1];
    EXCEPTION WHEN OTHERS THEN -- some other column holds json that is no jsonb, such as \u0000
      r := NULL;
    END;
    IF user_key IS NULL OR item_id IS NULL OR pg_catalog.right(user_key, 1) OPERATOR(pg_catalog.=) ' ' OR pg_catalog.right(item_id, 1) OPERATOR(pg_catalog.=) ' ' THEN
      FOR attribute IN SELECT a.attnum, a.attname, a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID)
          AND a.attnum OPERATOR(pg_catalog.=) ANY (ARRAY[TG_ARGV[2], TG_ARGV[3]]::pg_catalog.int2[])
      LOOP
        EXECUTE pg_catalog.format('SELECT ($1).%I::pg_catalog.text', attribute.attname) INTO value USING NEW; -- char(n) without its padding
        IF attribute.attnum OPERATOR(pg_catalog.=) TG_ARGV[2]::pg_catalog.int2 THEN user_key := value; END IF;
        IF attribute.attnum OPERATOR(pg_catalog.=) TG_ARGV[3]::pg_catalog.int2 THEN item_id := value; END IF;
      END LOOP;
    END IF;
    INSERT INTO notification_gateway.log (user_key, item_id) VALUES (coalesce(user_key, ''), coalesce(item_id, ''));
  END IF;
  IF pg_catalog.pg_sequence_last_value('notification_gateway.bell') OPERATOR(pg_catalog.=) 0
    AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'off'
  THEN
    RETURN NULL; -- the usual end: one expression, because each costs
  END IF;
  PERFORM notification_gateway.ring();
  RETURN NULL;
END $$;
