-- Revert hopcount:function_clicked_at from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP FUNCTION hopcount.clicked_at(hopcount.clicks);

COMMIT;
