-- For partitioned tables: an UPDATE that moves a row to another partition deletes
-- it in one and inserts it in the other, in one command. This notes which row was
-- deleted by which command of the transaction, so that capture() knows the row that
-- is inserted by the same command for the same one. A row that is deleted and
-- inserted by two commands is a new one. One that was made or moved earlier in the
-- same transaction is announced again: its cmax does not show the command. Arguments: the ID column and its number.
CREATE OR REPLACE FUNCTION notification_gateway.moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('notification_gateway.moved', coalesce((pg_catalog.to_jsonb(OLD) OPERATOR(pg_catalog.->>) TG_ARGV[0])
    OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) OLD.cmax::pg_catalog.text, ''), true);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN -- some column holds json that is no jsonb, such as \u0000: the row is announced again
  RETURN NULL;
END $$;
