-- Verify hopcount:function_clicked_at on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
DO $$
BEGIN
    ASSERT hopcount.clicked_at(ROW('017f22e2-79b0-7cc3-98c4-dc0c0c07398f', 'x')::hopcount.clicks)
        = timestamptz '2022-02-22 19:22:22+00';
END $$;

ROLLBACK;
