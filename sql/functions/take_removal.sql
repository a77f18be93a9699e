-- Whether the row that a partition gets was deleted from another one in this
-- transaction, by capture_row(): an UPDATE of the partition key moves a row by a
-- DELETE and an INSERT. Then nobody is told that it was removed.
CREATE OR REPLACE FUNCTION notification_gateway.take_removal(relation pg_catalog.oid, user_key pg_catalog.text, item_id pg_catalog.text)
RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$
BEGIN
  IF pg_catalog.pg_partition_root(relation) IS NULL THEN RETURN false; END IF;
  DELETE FROM notification_gateway.change c
    WHERE c.user_key OPERATOR(pg_catalog.=) take_removal.user_key AND c.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()
      AND c.item_id OPERATOR(pg_catalog.=) take_removal.item_id AND c.kind OPERATOR(pg_catalog.=) 'removed';
  RETURN FOUND;
END $$;
