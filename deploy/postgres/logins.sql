-- Run once, by the superuser, on an empty volume: who may come in. The schema is Sqitch's.

\set admin `cat /run/secrets/admin-password`
\set service `cat /run/secrets/service-password`

-- Deploys the schema, makes keys, looks after the months: through the role hopcount_owner, which it makes.
CREATE ROLE hopcount_admin LOGIN CREATEROLE PASSWORD :'admin';
-- What the service comes as: a member of hopcount_service, once that is deployed.
CREATE ROLE hopcount_app LOGIN PASSWORD :'service';

CREATE DATABASE hopcount OWNER hopcount_admin;
