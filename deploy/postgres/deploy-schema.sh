#!/bin/sh
# The one-shot migrator of the Compose stack: the schema by Sqitch, then what the service's login may do.
set -eu
PGPASSWORD=$(cat /run/secrets/admin-password)
export PGPASSWORD
sqitch deploy --target compose
psql --host db --dbname hopcount --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
SET client_min_messages = warning;
GRANT hopcount_service TO hopcount_app;
REVOKE CONNECT, TEMPORARY ON DATABASE hopcount FROM PUBLIC;
GRANT CONNECT ON DATABASE hopcount TO hopcount_app;
SQL
